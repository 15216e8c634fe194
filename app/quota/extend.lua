-- A running request needs more than was held for it: its hold grows, if the wallet and the budgets can pay for that.
-- KEYS  wallet holds, then `use` and `live` of each subject of its trace
-- ARGV  request, more (nano), draft of the receipt as it is now (empty: as it was)
-- ->    {'ok'} | {'credit'} | {'ended'}
local hold = redis.call('HGET', KEYS[2], ARGV[1])
local wallet = redis.call('HMGET', KEYS[1], 'b', 'h', 'f', 'l', 'x')
if not hold then return {'ended'} end
local credit = entitlement()
local more = tonumber(ARGV[2])
-- A wallet that is about to be rebuilt counts its holds then.
if more > 0 and wallet[1] then
  local lost = 0
  if wallet[4] then
    local clock = redis.call('TIME')
    lost = select(2, credit.expired_lots(wallet[4], wallet[5], wallet[2], clock[1] * 1000 + math.floor(clock[2] / 1000)))
  end
  if more > wallet[1] - wallet[2] - wallet[3] - lost then return {'credit'} end
end

local nano, rest, since_us, trace = string.match(hold, '^(%d+)( %d+ (%d+) (%S+) .*)$')
local grows, i = {}, 0
for items in string.gmatch(trace, '=([^;]*)') do
  i = i + 1
  local use = KEYS[1 + 2 * i]
  for name, amount in string.gmatch(items, '(usd%.%a+):(%d+)') do
    local seen = redis.call('HMGET', use, name, name .. '+', name .. '@')
    if seen[3] and tonumber(since_us) >= seen[3] * 1000 then
      if seen[1] + seen[2] + more > tonumber(amount) then return {'credit'} end
      grows[#grows + 1] = {use, name .. '+'}
    end
  end
end
for _, counter in ipairs(grows) do redis.call('HINCRBY', counter[1], counter[2], ARGV[2]) end
if wallet[1] then
  redis.call('HINCRBY', KEYS[1], 'h', ARGV[2])
  credit.move_entitled(KEYS[1], wallet[5], tonumber(since_us), more)
end
if ARGV[3] ~= '' then rest = string.match(rest, '^( %d+ %d+ %S+ %S+ %S+ )') .. ARGV[3] end
redis.call('HSET', KEYS[2], ARGV[1], string.format('%.0f', nano + more) .. rest)
return {'ok'}
