-- Signs of life: the leases of requests that still run are moved on. One that has ended stays ended.
-- KEYS  leases      ARGV  lease (ms), requests …      ->  how many are still held
local clock = redis.call('TIME')
local lease_end = string.format('%.0f', clock[1] * 1000 + math.floor(clock[2] / 1000) + tonumber(ARGV[1]))
local held = 0
for i = 2, #ARGV do
  if redis.call('ZSCORE', KEYS[1], ARGV[i]) then
    redis.call('ZADD', KEYS[1], 'XX', lease_end, ARGV[i])
    held = held + 1
  end
end
return held
