-- The one end of a hold: released, its wallet charged, its receipt appended. A second call finds no hold and does nothing.
-- KEYS  wallet holds leases receipts rate live made_good
-- ARGV  request, charge (nano), tokens used, receipt, generation of the wallet that gave the hold, 1 if this is a repeat
-- ->    {'ok', balance, what the wallet could not pay (nano)} | {'ended'} | {'lost'} (a repeat, and Redis was emptied)
local hold = redis.call('HGET', KEYS[2], ARGV[1])
local wallet = redis.call('HMGET', KEYS[1], 'b', 'h', 'f', 'g', 'l')
-- The hold is gone because it ended, unless this is another Redis than the one that gave it: then it is made good here.
if not hold then
  if wallet[4] == ARGV[5] or redis.call('SISMEMBER', KEYS[7], ARGV[1]) == 1 then return {'ended'} end
  if ARGV[6] == '1' then return {'lost'} end
  redis.call('SADD', KEYS[7], ARGV[1])
  redis.call('EXPIRE', KEYS[7], 86400)
end

local held = 0
if hold then
  local nano, tokens, tpm, at = string.match(hold, '^(%d+) (%d+) (%d+) (%d+) ')
  held, tokens = tonumber(nano), tonumber(tokens)
  redis.call('HDEL', KEYS[2], ARGV[1])
  redis.call('ZREM', KEYS[3], ARGV[1])
  redis.call('ZREM', KEYS[6], ARGV[1])
  if tokens > 0 and redis.call('HEXISTS', KEYS[5], 't') == 1 then
    -- What was held and not used is given back, but for what has leaked away meanwhile.
    local clock = redis.call('TIME')
    local leaked = math.floor((clock[1] * 1000000 + clock[2] - tonumber(at)) * tonumber(tpm) / 60)
    local more = (tonumber(ARGV[3]) - tokens) * 1000000
    local change = math.max(more, -math.max(0, tokens * 1000000 - leaked)) + 0 -- Lua has a negative zero
    redis.call('HINCRBY', KEYS[5], 't', string.format('%.0f', change))
  end
end

local entry = {'r', ARGV[4]}
local charge, unpaid, balance = tonumber(ARGV[2]), 0, 0
if wallet[1] then
  -- Other requests' holds are theirs: this one may spend its own hold and what nobody holds.
  local affordable = math.max(0, wallet[1] - wallet[2] - wallet[3] + held)
  unpaid = math.max(0, charge - affordable)
  local paid = charge - unpaid
  balance = wallet[1] - paid
  if paid > 0 then redis.call('HINCRBY', KEYS[1], 'b', string.format('%.0f', -paid)) end
  if held > 0 then redis.call('HINCRBY', KEYS[1], 'h', string.format('%.0f', -held)) end
  if paid > 0 and wallet[5] and wallet[5] ~= '' then
    -- Credits that are given away or expire are spent first, in the order they stand; the entry says how much of each.
    local left, lots, spent = paid, {}, {}
    for id, remaining, rest in string.gmatch(wallet[5], '([^: ]+):(%d+):(%d+:%d)') do
      local take = math.min(left, tonumber(remaining))
      left = left - take
      if take > 0 then spent[#spent + 1] = id .. ':' .. string.format('%.0f', take) end
      if remaining - take > 0 then lots[#lots + 1] = id .. ':' .. string.format('%.0f', remaining - take) .. ':' .. rest end
    end
    redis.call('HSET', KEYS[1], 'l', table.concat(lots, ' '))
    entry[3], entry[4] = 'l', table.concat(spent, ' ')
  end
elseif charge > 0 then
  entry[3], entry[4] = 'l', '?'
end
if unpaid > 0 then
  entry[#entry + 1] = 'u'
  entry[#entry + 1] = string.format('%.0f', unpaid)
end
redis.call('XADD', KEYS[4], '*', unpack(entry))
return {'ok', string.format('%.0f', balance), string.format('%.0f', unpaid)}
