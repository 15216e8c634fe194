-- Is there room at a vendor for one more request with this credential? A refused one uses nothing up.
-- KEYS  rate live
-- ARGV  seat (empty: only look), rpm, tpm, concurrency (0: no limit), tokens, lease (ms)
-- ->    {'ok', 0} | {'requests'|'tokens'|'concurrency', wait (ms)}
local rpm, tpm, concurrency = tonumber(ARGV[2]), tonumber(ARGV[3]), tonumber(ARGV[4])
local clock = redis.call('TIME')
local now_us = clock[1] * 1000000 + clock[2]
local now_ms = math.floor(now_us / 1000)

-- A leaking bucket of six seconds' worth, whose leak leaves room for it: no minute, wherever it begins, sees more than
-- the limit. What is larger than the bucket goes alone, and is paid off before the next. Levels are in millionths.
local function pour(level, elapsed_us, limit, cost)
  local most = math.max(1, math.floor(limit / 10))
  local a_minute = limit - most + 1
  level = math.max(0, level - math.floor(elapsed_us * a_minute / 60))
  local over = level - math.max(0, (most - cost) * 1000000)
  local after = level + cost * 1000000
  local empty_ms = math.ceil(after * 60 / a_minute / 1000)
  return after, over > 0 and math.max(1, math.ceil(over * 60 / a_minute / 1000)) or 0, empty_ms
end

local rate = redis.call('HMGET', KEYS[1], 'r', 't', 'at')
local elapsed = math.max(0, now_us - tonumber(rate[3] or now_us))
local requests, tokens, keep_ms = 0, 0, 0
if rpm > 0 then
  local wait, empty_ms
  requests, wait, empty_ms = pour(tonumber(rate[1] or 0), elapsed, rpm, 1)
  if wait > 0 then return {'requests', wait} end
  keep_ms = empty_ms
end
if tpm > 0 then
  local wait, empty_ms
  tokens, wait, empty_ms = pour(tonumber(rate[2] or 0), elapsed, tpm, tonumber(ARGV[5]))
  if wait > 0 then return {'tokens', wait} end
  keep_ms = math.max(keep_ms, empty_ms)
end
if concurrency > 0 then
  local ended = string.format('%.0f', now_ms)
  if redis.call('ZCOUNT', KEYS[2], '(' .. ended, '+inf') >= concurrency then return {'concurrency', 200} end
end
if ARGV[1] == '' then return {'ok', 0} end

if rpm > 0 or tpm > 0 then
  redis.call('HSET', KEYS[1], 'r', string.format('%.0f', requests), 't', string.format('%.0f', tokens),
    'at', string.format('%.0f', now_us))
  redis.call('PEXPIRE', KEYS[1], string.format('%.0f', keep_ms + 60000))
end
if concurrency > 0 then
  redis.call('ZREMRANGEBYSCORE', KEYS[2], '-inf', string.format('%.0f', now_ms))
  redis.call('ZADD', KEYS[2], string.format('%.0f', now_ms + tonumber(ARGV[6])), ARGV[1])
  redis.call('PEXPIRE', KEYS[2], 86400000)
end
return {'ok', 0}
