-- The one end of a hold: released, its wallet charged, its receipt appended. A second call finds no hold and does nothing.
-- KEYS  wallet holds leases receipts made_good, then `use` and `live` of each subject of the trace
-- ARGV  request, charge (nano), tokens used, receipt (empty: the request never began, and nothing is written of it),
--       generation of the wallet that gave the hold, 1 if this is a repeat, trace (rules.py), for where the hold is lost,
--       lease (ms), of a request that never began
-- ->    {'ok', balance, what the wallet could not pay (nano), id of the stream's entry, and for each budget that is half
--       used or more `<subject's place> <counter> <used> <amount> <start of its window, ms>`} | {'ended'} | {'lost'} (a
--       repeat, and this is not the wallet that gave the hold) | {'void'}
local hold = redis.call('HGET', KEYS[2], ARGV[1])
local is_void = ARGV[4] == ''
if is_void and (not hold or hold == 'void') then
  -- Its admission may still be on its way over a connection that was given up: it finds this in its place.
  local clock = redis.call('TIME')
  redis.call('HSET', KEYS[2], ARGV[1], 'void')
  redis.call('ZADD', KEYS[3], string.format('%.0f', clock[1] * 1000 + math.floor(clock[2] / 1000) + ARGV[8]), ARGV[1])
  return {'void'}
end
local wallet = redis.call('HMGET', KEYS[1], 'b', 'h', 'f', 'g', 'l', 'x')
-- The hold is gone because it ended, unless this is another Redis than the one that gave it: then it is made good here.
if not hold then
  if wallet[4] == ARGV[5] or redis.call('SISMEMBER', KEYS[5], ARGV[1]) == 1 then return {'ended'} end
  if ARGV[6] == '1' then return {'lost'} end
  redis.call('SADD', KEYS[5], ARGV[1])
  redis.call('EXPIRE', KEYS[5], 86400)
end
local function whole(number) return string.format('%.0f', number) end
local charge, used_tokens = tonumber(ARGV[2]), tonumber(ARGV[3])

-- Of a lost hold nothing is set aside any more; what it used counts all the same.
local held, held_tokens, since_us, trace = 0, 0, math.huge, ARGV[7]
if hold then
  held, held_tokens, since_us, trace = string.match(hold, '^(%d+) (%d+) (%d+) (%S+) ')
  held, held_tokens, since_us = tonumber(held), tonumber(held_tokens), tonumber(since_us)
  redis.call('HDEL', KEYS[2], ARGV[1])
  redis.call('ZREM', KEYS[3], ARGV[1])
end

local reached = {}
if trace ~= '-' then
  local function count(i, use, name, amount)
    local seen = redis.call('HMGET', use, name, name .. '+', name .. '@')
    if not seen[3] or since_us < seen[3] * 1000 then return end -- it was counted in a window that is over
    local is_limit = name == 'rpd' or name == 'tpd'
    local unit = string.match(name, '^%a+')
    local was_held, took = held, charge
    if name == 'rpd' or unit == 'requests' then
      was_held, took = 1, is_void and 0 or 1
    elseif name == 'tpd' or unit == 'tokens' then
      was_held, took = is_limit and math.min(held_tokens, amount) or held_tokens, used_tokens
    end
    local used = seen[1] + took
    local left_held = hold and math.max(0, seen[2] - was_held) or seen[2]
    redis.call('HSET', use, name, used, name .. '+', left_held)
    if not is_limit and used * 2 >= amount then
      reached[#reached + 1] = i - 1 .. ' ' .. name .. ' ' .. whole(used) .. ' ' .. whole(amount) .. ' ' .. seen[3]
    end
  end

  local i = 0
  for items in string.gmatch(trace, '=([^;]*)') do
    i = i + 1
    local use = KEYS[4 + 2 * i]
    for item in string.gmatch(items, '[^,]+') do
      local name, amount = string.match(item, '^([%a.]+):?(%d*)$')
      if name == 'c' then
        redis.call('ZREM', KEYS[5 + 2 * i], ARGV[1])
      elseif name == 't' then
        -- What was held of a minute's tokens and not used is given back, but for what has leaked away meanwhile.
        local tpm = tonumber(amount)
        local tokens = math.min(held_tokens, tpm)
        if tokens > 0 and redis.call('HEXISTS', use, 't') == 1 then
          local clock = redis.call('TIME')
          local leaked = math.floor((clock[1] * 1000000 + clock[2] - since_us) * tpm / 60)
          local back = math.max(0, tokens * 1000000 - leaked)
          local change = math.max((used_tokens - tokens) * 1000000, -back) + 0 -- Lua has a -0
          redis.call('HINCRBY', use, 't', change)
        end
      else
        count(i, use, name, tonumber(amount))
      end
    end
  end
end

local entry = {'r', ARGV[4]}
local unpaid, balance = 0, 0
if wallet[1] then
  -- Other requests' holds are theirs: this one may spend its own hold and what nobody holds.
  local credit = (wallet[5] or wallet[6]) and entitlement()
  local expired, lost = {}, 0
  if wallet[5] then
    local clock = redis.call('TIME')
    expired, lost = credit.expired_lots(wallet[5], wallet[6], wallet[2], clock[1] * 1000 + math.floor(clock[2] / 1000))
  end
  local affordable = math.max(0, wallet[1] - wallet[2] - wallet[3] - lost + held)
  unpaid = math.max(0, charge - affordable)
  local paid = charge - unpaid
  balance = wallet[1] - paid
  redis.call('HSET', KEYS[1], 'b', balance, 'h', wallet[2] - held)
  if credit then credit.move_entitled(KEYS[1], wallet[6], since_us, -held) end
  if paid > 0 and wallet[5] and wallet[5] ~= '' then
    -- Credits that are given away or expire are spent first; the entry says how much of each. What expired while the
    -- request ran comes before the others, which pay for requests that it does not pay for; those as they stand.
    local left, lots, spent, taken = paid, {}, {}, {}
    local function spend(id, remaining)
      local take = math.min(left, remaining)
      left, taken[id] = left - take, take
      if take > 0 then spent[#spent + 1] = id .. ':' .. whole(take) end
    end
    for _, lot in ipairs(expired) do
      spend(lot.id, hold and lot.expires * 1000 > since_us and lot.left or 0)
    end
    for id, remaining, rest in string.gmatch(wallet[5], '([^: ]+):(%d+):(%d+:%d)') do
      if not taken[id] then spend(id, tonumber(remaining)) end
      if remaining - taken[id] > 0 then lots[#lots + 1] = id .. ':' .. whole(remaining - taken[id]) .. ':' .. rest end
    end
    redis.call('HSET', KEYS[1], 'l', table.concat(lots, ' '))
    entry[3], entry[4] = 'l', table.concat(spent, ' ')
  end
elseif charge > 0 then
  entry[3], entry[4] = 'l', '?'
end
if unpaid > 0 then
  entry[#entry + 1] = 'u'
  entry[#entry + 1] = whole(unpaid)
end
local id = is_void and '' or redis.call('XADD', KEYS[4], '*', unpack(entry))
return {'ok', whole(balance), whole(unpaid), id, unpack(reached)}
