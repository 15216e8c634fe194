-- Puts the hold of a running request back that Redis has lost. One that is there, or was taken back, stays as it is.
-- KEYS  wallet holds leases, then `use` and `live` of each subject of the trace
-- ARGV  request, text of the hold, its amount (nano), lease (ms)      ->  1 where it was put back
if redis.call('HSETNX', KEYS[2], ARGV[1], ARGV[2]) == 0 then return 0 end
local clock = redis.call('TIME')
local lease_end = string.format('%.0f', clock[1] * 1000 + math.floor(clock[2] / 1000) + ARGV[4])
redis.call('ZADD', KEYS[3], lease_end, ARGV[1])
if redis.call('EXISTS', KEYS[1]) == 1 then
  redis.call('HINCRBY', KEYS[1], 'h', ARGV[3])
  local since_us = tonumber(string.match(ARGV[2], '^%d+ %d+ (%d+) '))
  move_entitled(KEYS[1], redis.call('HGET', KEYS[1], 'x'), since_us, tonumber(ARGV[3]))
end
local i = 0
for items in string.gmatch(string.match(ARGV[2], '^%d+ %d+ %d+ (%S+) '), '=([^;]*)') do
  i = i + 1
  if string.match(',' .. items .. ',', ',c,') then redis.call('ZADD', KEYS[3 + 2 * i], lease_end, ARGV[1]) end
end
return 1
