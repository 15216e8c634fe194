-- One moment of a shard: what its stream has beyond an entry, all that was set aside of it, all holds, and wallets as they
-- stood with them.
-- KEYS  receipts rejected holds wallet …      ARGV  id of an entry, or empty: from the first on
-- ->    {{id, fields} …}, {request, nano, account, …}, id of the stream's last entry or empty,
--       {{id, fields} …} that were set aside, {b, h, s, f, l} …
local from = ARGV[1] == '' and '-' or '(' .. ARGV[1]
local last = redis.call('XREVRANGE', KEYS[1], '+', '-', 'COUNT', 1)
local seen = {redis.call('XRANGE', KEYS[1], from, '+'), {}, last[1] and last[1][1] or '', redis.call('XRANGE', KEYS[2], '-', '+')}
local holds, all = seen[2], redis.call('HGETALL', KEYS[3])
for i = 1, #all, 2 do
  local nano, account = string.match(all[i + 1], '^(%d+) %d+ %d+ %S+ (%S+)')
  if nano then
    holds[#holds + 1] = all[i]
    holds[#holds + 1] = nano
    holds[#holds + 1] = account
  end
end
for i = 4, #KEYS do seen[i + 1] = redis.call('HMGET', KEYS[i], 'b', 'h', 's', 'f', 'l') end
return seen
