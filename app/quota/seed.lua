-- Brings counters that Redis does not have from the books, with what requests in flight have set aside. Never touches
-- one that is there, or a later window's.
-- KEYS  holds receipts, then `use` of each subject
-- ARGV  id of the stream's last entry as the caller saw it, how long to keep them (s), and for each subject its name and
--       `<counter> <start of its window, ms> <used> …`
-- ->    'ok' | 'moved' (the stream has grown: read it again)
local last = redis.call('XREVRANGE', KEYS[2], '+', '-', 'COUNT', 1)
if (last[1] and last[1][1] or '') ~= ARGV[1] then return 'moved' end

-- What is set aside, by subject and counter.
local function held_by(subject, name, start_ms)
  local sum = 0
  for _, hold in ipairs(redis.call('HVALS', KEYS[1])) do
    local nano, tokens, since_us, trace = string.match(hold, '^(%d+) (%d+) (%d+) (%S+) ')
    local items = trace and string.match(';' .. trace .. ';', ';' .. subject:gsub('%W', '%%%0') .. '=([^;]*);')
    local amount = items and string.match(',' .. items, ',' .. name:gsub('%W', '%%%0') .. ':(%d+)')
    if amount and tonumber(since_us) >= start_ms * 1000 then
      local unit = string.match(name, '^%a+')
      if name == 'rpd' or unit == 'requests' then
        sum = sum + 1
      elseif name == 'tpd' then
        sum = sum + math.min(tonumber(tokens), tonumber(amount))
      else
        sum = sum + tonumber(unit == 'tokens' and tokens or nano)
      end
    end
  end
  return string.format('%.0f', sum)
end

for i = 1, #KEYS - 2 do
  local use, subject = KEYS[2 + i], ARGV[1 + 2 * i]
  for name, start, used in string.gmatch(ARGV[2 + 2 * i], '(%S+) (%d+) (%d+)') do
    local began = redis.call('HGET', use, name .. '@')
    if not began or tonumber(began) < tonumber(start) then
      redis.call('HSET', use, name, used, name .. '+', held_by(subject, name, tonumber(start)), name .. '@', start)
      redis.call('EXPIRE', use, ARGV[2])
    end
  end
end
return 'ok'
