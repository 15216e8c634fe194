-- What a subject has used, at one moment.
-- KEYS  use live      ->  {now (us), fields of `use` …}, how many requests it has in flight
local clock = redis.call('TIME')
local now_ms = clock[1] * 1000 + math.floor(clock[2] / 1000)
return {string.format('%.0f', clock[1] * 1000000 + clock[2]), redis.call('HGETALL', KEYS[1]),
  redis.call('ZCOUNT', KEYS[2], now_ms, '+inf')}
