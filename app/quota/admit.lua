-- May this request start? All rules are looked at before anything is written: a refused request uses nothing up.
-- KEYS  wallet holds leases, then `use` and `live` of each subject
-- ARGV  request, hold (nano), hold (tokens), lease (ms), rest of the hold's text, rules (rules.py's _pack) or empty
-- ->    {'ok', generation, and of the tightest limit of requests, then of tokens: limit (0: none), left, ms until full}
--       {'cold'} | {'unknown'}: the wallet, or a counter, has to be brought from the books first
--       {'limit', subject, rule, retry after (ms), left, ms until full}: the one that refuses for longest
--       {'budget', subject, counter, left, ms until it frees (-1: never), used, start of its window (ms)}
--       {'credit', available (nano)}
local wallet = redis.call('HMGET', KEYS[1], 'b', 'h', 'f', 'g')
if not wallet[1] then return {'cold'} end
local hold, tokens = tonumber(ARGV[2]), tonumber(ARGV[3])
local rules = ARGV[6] == '' and {} or cmsgpack.unpack(ARGV[6])
local clock = redis.call('TIME')
local now_us = clock[1] * 1000000 + clock[2]
local now_ms = math.floor(now_us / 1000)
local function whole(number) return string.format('%.0f', number) end

local refusal, short
local tightest = {requests = {0, 0, 0}, tokens = {0, 0, 0}}
local function refuse(...)
  local said = {...}
  if not refusal or said[3] > refusal[4] then refusal = {'limit', unpack(said)} end
end
local function note(kind, limit, left, until_full)
  local seen = tightest[kind]
  if seen[1] == 0 or left < seen[2] then tightest[kind] = {limit, left, until_full} end
end

-- A leaking bucket (GCRA): it holds one minute's worth, and leaks `limit / 60` a second. Levels are in millionths.
local function pour(i, rule, kind, limit, level, elapsed_us, cost)
  level = math.max(0, level - math.floor(elapsed_us * limit / 60))
  local function left(at) return math.max(0, math.floor(limit - at / 1000000)) end
  local function until_full(at) return math.ceil(at * 60 / limit / 1000) end
  local filled = level + math.min(cost, limit) * 1000000
  local over = filled - limit * 1000000
  if over > 0 then
    refuse(i, rule, math.max(1, math.ceil(over * 60 / limit / 1000)), left(level), until_full(level))
  end
  note(kind, limit, left(filled), until_full(filled))
  return filled
end

local function has_no_place(live, places)
  -- Leases are renewed in one place: one that seems to have run out here may have been moved on there.
  for _, request in ipairs(redis.call('ZRANGEBYSCORE', live, '-inf', '(' .. now_ms)) do
    local lease = redis.call('ZSCORE', KEYS[3], request)
    if lease and tonumber(lease) >= now_ms then
      redis.call('ZADD', live, lease, request)
    else
      redis.call('ZREM', live, request)
    end
  end
  return redis.call('ZCARD', live) >= places
end

-- A window's counter: `used` is settled, `held` is set aside. False where the books have to be asked.
local function count(i, counter, used, held, began, writes)
  local name, unit, amount, is_budget, starts = unpack(counter)
  local at = #starts
  while at > 1 and starts[at] > now_ms do at = at - 1 end
  local start, ends = starts[at], starts[at + 1]
  if not began then return false end
  used, held, began = tonumber(used or 0), tonumber(held or 0), tonumber(began)
  if began < start then
    local is_known = false
    for before = 1, at - 1 do is_known = is_known or starts[before] == began end
    if not is_known then return false end
    used, held, began = 0, 0, start
    writes[#writes + 1], writes[#writes + 2] = name, '0'
    writes[#writes + 1], writes[#writes + 2] = name .. '@', whole(start)
  end
  local cost = unit == 1 and 1 or unit == 2 and tokens or hold
  -- A request that is larger than a day's limit may run alone; a budget is never exceeded knowingly.
  if not is_budget then cost = math.min(cost, amount) end
  local left = amount - used - held
  local wait = ends and ends - now_ms or -1
  if cost <= left then
    writes[#writes + 1], writes[#writes + 2] = name .. '+', whole(held + cost)
  elseif is_budget then
    if not short or unit == 1 then short = {'budget', i, name, whole(left), wait, whole(used), whole(began)} end
  else
    refuse(i, name, wait, math.max(0, left), wait)
  end
  if not is_budget then note(unit == 1 and 'requests' or 'tokens', amount, math.max(0, left - cost), wait) end
  return true
end

local writes = {}
for i, rule in ipairs(rules) do
  local rpm, tpm, places, _, fields, counters = unpack(rule)
  local seen = redis.call('HMGET', KEYS[2 + 2 * i], unpack(fields))
  local mine = {}
  if rpm > 0 or tpm > 0 then
    local elapsed = math.max(0, now_us - tonumber(seen[3] or now_us))
    local requests = rpm > 0 and pour(i, 'rpm', 'requests', rpm, tonumber(seen[1] or 0), elapsed, 1) or 0
    local poured = tpm > 0 and pour(i, 'tpm', 'tokens', tpm, tonumber(seen[2] or 0), elapsed, tokens) or 0
    mine = {'r', whole(requests), 't', whole(poured), 'at', whole(now_us)}
  end
  for j, counter in ipairs(counters) do
    if not count(i, counter, seen[1 + 3 * j], seen[2 + 3 * j], seen[3 + 3 * j], mine) then return {'unknown'} end
  end
  if places > 0 and has_no_place(KEYS[3 + 2 * i], places) then refuse(i, 'concurrency', 1000, 0, 1000) end
  writes[i] = mine
end
if short or refusal then return short or refusal end
local available = wallet[1] - wallet[2] - wallet[3]
if hold > available or available < 0 then return {'credit', whole(available)} end

local lease_end = whole(now_ms + tonumber(ARGV[4]))
for i, rule in ipairs(rules) do
  if #writes[i] > 0 then
    redis.call('HSET', KEYS[2 + 2 * i], unpack(writes[i]))
    redis.call('EXPIRE', KEYS[2 + 2 * i], rule[4])
  end
  if rule[3] > 0 then
    redis.call('ZADD', KEYS[3 + 2 * i], lease_end, ARGV[1])
    redis.call('EXPIRE', KEYS[3 + 2 * i], 86400)
  end
end
redis.call('HINCRBY', KEYS[1], 'h', ARGV[2])
redis.call('HSET', KEYS[2], ARGV[1], ARGV[2] .. ' ' .. ARGV[3] .. ' ' .. whole(now_us) .. ' ' .. ARGV[5])
redis.call('ZADD', KEYS[3], lease_end, ARGV[1])
local requests, poured = tightest.requests, tightest.tokens
return {'ok', wallet[4], requests[1], requests[2], requests[3], poured[1], poured[2], poured[3]}
