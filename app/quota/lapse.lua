-- Takes an expired lot out of the wallet, once: so much of it stays as those hold that were admitted before it expired,
-- until they have ended.
-- KEYS  wallet receipts      ARGV  lot, movement (JSON)
-- ->    {'ok', taken (nano), what remains of the lot (nano)}; both 0 where it is gone, or has not expired | {'cold'}
local wallet = redis.call('HMGET', KEYS[1], 'b', 'h', 'l', 'x')
if not wallet[1] then return {'cold'} end
local clock = redis.call('TIME')
local now_ms = clock[1] * 1000 + math.floor(clock[2] / 1000)
local taken, remains = 0, 0
for _, lot in ipairs(entitlement().expired_lots(wallet[3], wallet[4], wallet[2], now_ms)) do
  if lot.id == ARGV[1] then taken, remains = lot.left - lot.kept, lot.kept end
end
if taken > 0 then
  local lots = {}
  for lot in string.gmatch(wallet[3], '%S+') do
    local id, rest = string.match(lot, '^([^:]+):%d+:(.*)$')
    if id ~= ARGV[1] then
      lots[#lots + 1] = lot
    elseif remains > 0 then
      lots[#lots + 1] = string.format('%s:%.0f:%s', id, remains, rest)
    end
  end
  redis.call('HINCRBY', KEYS[1], 'b', string.format('%.0f', -taken))
  if #lots > 0 then
    redis.call('HSET', KEYS[1], 'l', table.concat(lots, ' '))
  else
    redis.call('HDEL', KEYS[1], 'l', 'x')
  end
  redis.call('XADD', KEYS[2], '*', 'm', ARGV[2], 'a', string.format('%.0f', taken))
end
return {'ok', string.format('%.0f', taken), string.format('%.0f', remains)}
