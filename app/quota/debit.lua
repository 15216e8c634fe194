-- Takes money back, where the wallet has it free: lots that have not expired first, in their order, like a charge. Once
-- for each movement.
-- KEYS  wallet receipts debit (the movement's own)      ARGV  amount (nano), movement (JSON)
-- ->    'ok' | 'credit' (the wallet does not have it) | 'cold' | what was taken before (nano)
local wallet = redis.call('HMGET', KEYS[1], 'b', 'h', 'f', 'l', 'x')
local before = redis.call('GET', KEYS[3])
if before then return before end
if not wallet[1] then return 'cold' end
local clock = redis.call('TIME')
local now_ms = clock[1] * 1000 + math.floor(clock[2] / 1000)
local amount = tonumber(ARGV[1])
local _, lost = entitlement().expired_lots(wallet[4], wallet[5], wallet[2], now_ms)
local due, lots, parts = amount, {}, {}
for lot in string.gmatch(wallet[4] or '', '%S+') do
  local id, left, rest, expires = string.match(lot, '^([^:]+):(%d+):((%d+):%d)$')
  local is_over = expires ~= '0' and tonumber(expires) <= now_ms
  local part = is_over and 0 or math.min(tonumber(left), due)
  due = due - part
  if part > 0 then parts[#parts + 1] = string.format('%s:%.0f', id, part) end
  if tonumber(left) > part then lots[#lots + 1] = string.format('%s:%.0f:%s', id, tonumber(left) - part, rest) end
end
if wallet[1] - wallet[2] - wallet[3] - lost < amount then return 'credit' end
redis.call('SET', KEYS[3], ARGV[1], 'EX', 86400)
redis.call('HINCRBY', KEYS[1], 'b', string.format('%.0f', -amount))
if #lots > 0 then
  redis.call('HSET', KEYS[1], 'l', table.concat(lots, ' '))
else
  redis.call('HDEL', KEYS[1], 'l')
end
if #parts > 0 then
  redis.call('XADD', KEYS[2], '*', 'm', ARGV[2], 'a', ARGV[1], 'l', table.concat(parts, ' '))
else
  redis.call('XADD', KEYS[2], '*', 'm', ARGV[2], 'a', ARGV[1])
end
return 'ok'
