-- A request with a vendor's credential has ended: its seat is free, and its tokens are what it really took.
-- KEYS  rate live      ARGV  seat, tokens more than were held (or, below zero, less)
redis.call('ZREM', KEYS[2], ARGV[1])
local level = redis.call('HGET', KEYS[1], 't')
if level and ARGV[2] ~= '0' then
  redis.call('HSET', KEYS[1], 't', string.format('%.0f', math.max(0, level + ARGV[2] * 1000000)))
end
return 0
