-- May this request start? All rules are looked at before anything is written: a refused request uses nothing up.
-- KEYS  wallet holds leases rate live
-- ARGV  request, hold (nano), hold (tokens), rpm, tpm, concurrency (0: no limit), lease (ms), rest of the hold's text
-- ->    {'ok', generation, requests left, ms until full, tokens left, ms until full}
--       {'cold'} | {'requests'|'tokens'|'concurrency', retry after (ms), left, ms until full} | {'credit', available (nano)}
local wallet = redis.call('HMGET', KEYS[1], 'b', 'h', 'f', 'g')
if not wallet[1] then return {'cold'} end
local hold, tokens = tonumber(ARGV[2]), tonumber(ARGV[3])
local rpm, tpm, concurrency = tonumber(ARGV[4]), tonumber(ARGV[5]), tonumber(ARGV[6])
local clock = redis.call('TIME')
local now_us = clock[1] * 1000000 + clock[2]
local now_ms = math.floor(now_us / 1000)

-- A leaking bucket (GCRA): it holds one minute's worth, and leaks `limit / 60` a second. Levels are in millionths.
local function pour(level, elapsed_us, limit, cost)
  level = math.max(0, level - math.floor(elapsed_us * limit / 60))
  cost = math.min(cost, limit) * 1000000
  local over = level + cost - limit * 1000000
  return level + cost, over > 0 and math.max(1, math.ceil(over * 60 / limit / 1000)) or 0, level
end
local function left(limit, level) return math.max(0, math.floor(limit - level / 1000000)) end
local function until_full(limit, level) return math.ceil(level * 60 / limit / 1000) end

local requests_level, tokens_level = 0, 0
if rpm > 0 or tpm > 0 then
  local rate = redis.call('HMGET', KEYS[4], 'r', 't', 'at')
  local elapsed = math.max(0, now_us - tonumber(rate[3] or now_us))
  if rpm > 0 then
    local wait, before
    requests_level, wait, before = pour(tonumber(rate[1] or 0), elapsed, rpm, 1)
    if wait > 0 then return {'requests', wait, left(rpm, before), until_full(rpm, before)} end
  end
  if tpm > 0 then
    local wait, before
    tokens_level, wait, before = pour(tonumber(rate[2] or 0), elapsed, tpm, tokens)
    if wait > 0 then return {'tokens', wait, left(tpm, before), until_full(tpm, before)} end
  end
end
if concurrency > 0 then
  -- Leases are renewed in one place: one that seems to have run out here may have been moved on there.
  for _, request in ipairs(redis.call('ZRANGEBYSCORE', KEYS[5], '-inf', '(' .. now_ms)) do
    local lease = redis.call('ZSCORE', KEYS[3], request)
    if lease and tonumber(lease) >= now_ms then
      redis.call('ZADD', KEYS[5], lease, request)
    else
      redis.call('ZREM', KEYS[5], request)
    end
  end
  if redis.call('ZCARD', KEYS[5]) >= concurrency then return {'concurrency', 1000, 0, 1000} end
end
local available = wallet[1] - wallet[2] - wallet[3]
if hold > available or available < 0 then return {'credit', string.format('%.0f', available)} end

if rpm > 0 or tpm > 0 then
  redis.call('HSET', KEYS[4], 'r', string.format('%.0f', requests_level), 't', string.format('%.0f', tokens_level),
    'at', string.format('%.0f', now_us))
  redis.call('PEXPIRE', KEYS[4], 120000)
end
local lease_end = string.format('%.0f', now_ms + tonumber(ARGV[7]))
if concurrency > 0 then
  redis.call('ZADD', KEYS[5], lease_end, ARGV[1])
  redis.call('EXPIRE', KEYS[5], 86400)
end
redis.call('HINCRBY', KEYS[1], 'h', ARGV[2])
redis.call('HSET', KEYS[2], ARGV[1], string.format('%s %.0f %.0f %.0f %s', ARGV[2],
  tpm > 0 and math.min(tokens, tpm) or 0, tpm, now_us, ARGV[8]))
redis.call('ZADD', KEYS[3], lease_end, ARGV[1])
return {'ok', wallet[4], left(rpm, requests_level), rpm > 0 and until_full(rpm, requests_level) or 0,
  left(tpm, tokens_level), tpm > 0 and until_full(tpm, tokens_level) or 0}
