-- Builds a wallet from what the journal says of it: one that Redis has lost, or never had; or puts one right.
-- KEYS  wallet holds receipts, then a key for each debit
-- ARGV  account, balance (nano), number of its last credit, floor (nano), id of the stream's last entry as the caller saw it,
--       lots in spending order, or empty; the wallet as the caller saw it, `<b> <s> <l>`, or empty where there was none;
--       how many holds have ended and are still here, and those; and for each debit that is not in the stream any more:
--       its movement (JSON), amount (nano), and what comes out of lots
-- ->    'ok' | 'there' (another built it) | 'moved' (the stream, or the wallet, has changed: read it again)
local wallet = redis.call('HMGET', KEYS[1], 'b', 's', 'l')
if ARGV[7] == '' then
  if wallet[1] then return 'there' end
elseif not wallet[1] or wallet[1] .. ' ' .. wallet[2] .. ' ' .. (wallet[3] or '') ~= ARGV[7] then
  return 'moved'
end
local last = redis.call('XREVRANGE', KEYS[3], '+', '-', 'COUNT', 1)
if (last[1] and last[1][1] or '') ~= ARGV[5] then return 'moved' end

for i = 9, 8 + ARGV[8] do redis.call('HDEL', KEYS[2], ARGV[i]) end
local held, holds = 0, redis.call('HVALS', KEYS[2])
for _, hold in ipairs(holds) do
  local nano, account = string.match(hold, '^(%d+) %d+ %d+ %S+ (%S+)')
  if account == ARGV[1] then held = held + tonumber(nano) end
end
local at = 9 + ARGV[8]
for i = 4, #KEYS do
  redis.call('SET', KEYS[i], ARGV[at + 1], 'EX', 86400)
  if ARGV[at + 2] ~= '' then
    redis.call('XADD', KEYS[3], '*', 'm', ARGV[at], 'a', ARGV[at + 1], 'l', ARGV[at + 2])
  else
    redis.call('XADD', KEYS[3], '*', 'm', ARGV[at], 'a', ARGV[at + 1])
  end
  at = at + 3
end
local clock = redis.call('TIME')
redis.call('DEL', KEYS[1])
redis.call('HSET', KEYS[1], 'b', ARGV[2], 'h', string.format('%.0f', held), 'f', ARGV[4], 's', ARGV[3],
  'g', string.format('%.0f', clock[1] * 1000000 + clock[2]))
if ARGV[6] ~= '' then
  local now_ms = clock[1] * 1000 + math.floor(clock[2] / 1000)
  redis.call('HSET', KEYS[1], 'l', ARGV[6], 'x', entitlement().count_entitled(ARGV[1], ARGV[6], holds, now_ms))
end
return 'ok'
