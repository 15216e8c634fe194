-- Builds a wallet that Redis has lost, or never had, from what the journal says of it. Never touches one that is there.
-- KEYS  wallet holds receipts
-- ARGV  account, balance (nano), number of its last credit, floor (nano), id of the stream's last entry as the caller saw it,
--       lots in spending order, or empty
-- ->    'ok' | 'there' | 'moved' (the stream has grown: read it again)
if redis.call('EXISTS', KEYS[1]) == 1 then return 'there' end
local last = redis.call('XREVRANGE', KEYS[3], '+', '-', 'COUNT', 1)
if (last[1] and last[1][1] or '') ~= ARGV[5] then return 'moved' end
local held = 0
for _, hold in ipairs(redis.call('HVALS', KEYS[2])) do
  local nano, account = string.match(hold, '^(%d+) %d+ %d+ %S+ (%S+)')
  if account == ARGV[1] then held = held + tonumber(nano) end
end
local clock = redis.call('TIME')
redis.call('HSET', KEYS[1], 'b', ARGV[2], 'h', string.format('%.0f', held), 'f', ARGV[4], 's', ARGV[3],
  'g', string.format('%.0f', clock[1] * 1000000 + clock[2]))
if ARGV[6] ~= '' then redis.call('HSET', KEYS[1], 'l', ARGV[6]) end
return 'ok'
