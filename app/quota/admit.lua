-- May this request start? All rules are looked at before anything is written: a refused request uses nothing up.
-- KEYS  wallet holds leases, then `use` and `live` of each subject
-- ARGV  request, hold (nano), hold (tokens), lease (ms), rest of the hold's text, rules (rules.py's _pack) or empty
-- ->    {'ok', generation, and of the tightest limit of requests, then of tokens: limit (0: none), left, ms until full}
--       {'cold'} | {'unknown'}: the wallet, or a counter, has to be brought from the books first
--       {'limit', subject, rule, retry after (ms), left, ms until full}: the one that refuses for longest
--       {'budget', subject, counter, left, ms until it frees (-1: never), used, start of its window (ms)}
--       {'credit', available (nano)}
--       {'void'}: it was taken back before it came
local wallet = redis.call('HMGET', KEYS[1], 'b', 'h', 'f', 'g', 'l', 'x')
if not wallet[1] then return {'cold'} end
local hold, tokens = tonumber(ARGV[2]), tonumber(ARGV[3])
local clock = redis.call('TIME')
local now_us = clock[1] * 1000000 + clock[2]
local now_ms = math.floor(now_us / 1000)
local format = string.format -- for texts: a number that is an argument of `redis.call` is written in full by itself

local refusal, short -- of the limits that refuse the one with the longest wait, and a budget
local requests_limit, requests_left, requests_reset = 0, 0, 0
local tokens_limit, tokens_left, tokens_reset = 0, 0, 0
local function refuse(subject, rule, wait, left, reset)
  if not refusal or wait > refusal[4] then refusal = {'limit', subject, rule, wait, left, reset} end
end
local function note_requests(limit, left, reset)
  if requests_limit == 0 or left < requests_left then requests_limit, requests_left, requests_reset = limit, left, reset end
end
local function note_tokens(limit, left, reset)
  if tokens_limit == 0 or left < tokens_left then tokens_limit, tokens_left, tokens_reset = limit, left, reset end
end

-- A leaking bucket (GCRA): it holds one minute's worth, and leaks `limit / 60` a second. Levels are in millionths.
local function pour(subject, rule, limit, level, elapsed_us, cost, note)
  level = math.max(0, level - math.floor(elapsed_us * limit / 60))
  local filled = level + math.min(cost, limit) * 1000000
  local over = filled - limit * 1000000
  if over > 0 then
    refuse(subject, rule, math.max(1, math.ceil(over * 60 / limit / 1000)),
      math.max(0, math.floor(limit - level / 1000000)), math.ceil(level * 60 / limit / 1000))
  end
  note(limit, math.max(0, math.floor(limit - filled / 1000000)), math.ceil(filled * 60 / limit / 1000))
  return filled
end

local function has_no_place(live, places)
  if redis.call('ZCARD', live) < places then return false end
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
local function count(subject, counter, used, held, began, writes)
  if not began then return false end
  local name, unit, amount, is_budget, starts = unpack(counter)
  local at = #starts
  while at > 1 and starts[at] > now_ms do at = at - 1 end
  used, held, began = tonumber(used), tonumber(held), tonumber(began)
  if began < starts[at] then
    local is_known = false
    for before = 1, at - 1 do is_known = is_known or starts[before] == began end
    if not is_known then return false end
    used, held, began = 0, 0, starts[at]
    writes[#writes + 1], writes[#writes + 2] = name, 0
    writes[#writes + 1], writes[#writes + 2] = name .. '@', began
  end
  local cost = unit == 1 and 1 or unit == 2 and tokens or hold
  -- A request that is larger than a day's limit may run alone; a budget is never exceeded knowingly.
  if not is_budget then cost = math.min(cost, amount) end
  local left = amount - used - held
  local wait = starts[at + 1] and starts[at + 1] - now_ms or -1
  if cost <= left then
    writes[#writes + 1], writes[#writes + 2] = name .. '+', held + cost
  elseif not is_budget then
    refuse(subject, name, wait, math.max(0, left), wait)
  elseif not short or unit == 1 then
    short = {'budget', subject, name, format('%.0f', left), wait, format('%.0f', used), format('%.0f', began)}
  end
  if not is_budget then (unit == 1 and note_requests or note_tokens)(amount, math.max(0, left - cost), wait) end
  return true
end

local rules, writes, is_kept = {}, {}, {}
if ARGV[6] ~= '' then rules = cmsgpack.unpack(ARGV[6]) end
for i, rule in ipairs(rules) do
  local rpm, tpm, places, counters = rule[1], rule[2], rule[3], rule[5]
  local use, seen = KEYS[2 + 2 * i], nil
  if counters then
    seen = redis.call('HMGET', use, 'at', 'r', 't', unpack(rule[6]))
  else
    seen = redis.call('HMGET', use, 'at', 'r', 't')
  end
  local at, requests, poured = tonumber(seen[1] or 0), 0, 0
  local elapsed = math.max(0, now_us - at)
  if rpm > 0 then requests = pour(i, 'rpm', rpm, seen[2] or 0, elapsed, 1, note_requests) end
  if tpm > 0 then poured = pour(i, 'tpm', tpm, seen[3] or 0, elapsed, tokens, note_tokens) end
  local mine = {'at', now_us, 'r', requests, 't', poured}
  for j, counter in ipairs(counters or {}) do
    if not count(i, counter, seen[1 + 3 * j], seen[2 + 3 * j], seen[3 + 3 * j], mine) then return {'unknown'} end
  end
  if places > 0 and has_no_place(KEYS[3 + 2 * i], places) then refuse(i, 'concurrency', 1000, 0, 1000) end
  -- To be kept for so long is said again once in half a minute.
  is_kept[i] = math.floor(at / 30000000) == math.floor(now_us / 30000000)
  writes[i] = mine
end
if short or refusal then return short or refusal end
local available, credit, expired = wallet[1] - wallet[2] - wallet[3], nil, nil
if wallet[5] then
  local lost
  credit = entitlement()
  expired, lost = credit.expired_lots(wallet[5], wallet[6], wallet[2], now_ms)
  available = available - lost
end
if hold > available or available < 0 then return {'credit', format('%.0f', available)} end

local text = format('%s %s %.0f %s', ARGV[2], ARGV[3], now_us, ARGV[5])
if redis.call('HSETNX', KEYS[2], ARGV[1], text) == 0 then return {'void'} end
local lease_end = now_ms + ARGV[4]
for i, rule in ipairs(rules) do
  redis.call('HSET', KEYS[2 + 2 * i], unpack(writes[i]))
  if rule[3] > 0 then redis.call('ZADD', KEYS[3 + 2 * i], lease_end, ARGV[1]) end
  if not is_kept[i] then
    redis.call('EXPIRE', KEYS[2 + 2 * i], rule[4])
    redis.call('EXPIRE', KEYS[3 + 2 * i], 86400)
  end
end
if credit then credit.note_entitled(KEYS[1], expired) end
redis.call('HINCRBY', KEYS[1], 'h', ARGV[2])
redis.call('ZADD', KEYS[3], lease_end, ARGV[1])
return {'ok', wallet[4], requests_limit, requests_left, requests_reset, tokens_limit, tokens_left, tokens_reset}
