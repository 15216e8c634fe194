-- Takes an expired lot out of the wallet, once: of the expired lots, in their order, so much stays as running requests
-- hold, until they have ended.
-- KEYS  wallet receipts      ARGV  lot, movement (JSON)
-- ->    {'ok', taken (nano), what remains of the lot (nano)}; both 0 where it is gone, or has not expired | {'cold'}
local wallet = redis.call('HMGET', KEYS[1], 'b', 'h', 'l')
if not wallet[1] then return {'cold'} end
local clock = redis.call('TIME')
local now_ms = clock[1] * 1000 + math.floor(clock[2] / 1000)
local taken, remains, lots = 0, 0, {}
local held = tonumber(wallet[2])
for lot in string.gmatch(wallet[3] or '', '%S+') do
  local id, left, expires, promo = string.match(lot, '^([^:]+):(%d+):(%d+):(%d)$')
  if tonumber(expires) > 0 and tonumber(expires) <= now_ms then
    left = tonumber(left)
    local kept = math.min(left, held)
    held = held - kept
    if id == ARGV[1] then
      taken = math.min(left - kept, math.max(0, wallet[1] - wallet[2]))
      remains = left - taken
      lot = remains > 0 and string.format('%s:%.0f:%s:%s', id, remains, expires, promo) or nil
    end
  end
  lots[#lots + 1] = lot
end
if taken > 0 then
  redis.call('HINCRBY', KEYS[1], 'b', string.format('%.0f', -taken))
  if #lots > 0 then
    redis.call('HSET', KEYS[1], 'l', table.concat(lots, ' '))
  else
    redis.call('HDEL', KEYS[1], 'l')
  end
  redis.call('XADD', KEYS[2], '*', 'm', ARGV[2], 'a', string.format('%.0f', taken))
end
return {'ok', string.format('%.0f', taken), string.format('%.0f', remains)}
