-- A request still runs: its seat is kept for one lease more. One that was given back meanwhile is not taken again.
-- KEYS  live      ARGV  seat, lease (ms)
local clock = redis.call('TIME')
local now_ms = clock[1] * 1000 + math.floor(clock[2] / 1000)
return redis.call('ZADD', KEYS[1], 'XX', 'CH', string.format('%.0f', now_ms + tonumber(ARGV[2])), ARGV[1])
