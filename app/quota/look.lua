-- One moment of a shard, whole: every entry its stream still has, all holds, and wallets as they stood with them.
-- KEYS  receipts holds wallet …      ->  {{id, fields} …}, {request, nano, account, …}, {b, h, s, f, l} …
local seen = {redis.call('XRANGE', KEYS[1], '-', '+'), {}}
local holds, all = seen[2], redis.call('HGETALL', KEYS[2])
for i = 1, #all, 2 do
  local nano, account = string.match(all[i + 1], '^(%d+) %d+ %d+ %S+ (%S+)')
  if nano then
    holds[#holds + 1] = all[i]
    holds[#holds + 1] = nano
    holds[#holds + 1] = account
  end
end
for i = 3, #KEYS do seen[i] = redis.call('HMGET', KEYS[i], 'b', 'h', 's', 'f', 'l') end
return seen
