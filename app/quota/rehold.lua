-- Puts the hold of a running request back that Redis has lost, or has as it was before it grew. One that was taken back
-- stays so.
-- KEYS  wallet holds leases, then `use` and `live` of each subject of the trace
-- ARGV  request, text of the hold, its amount (nano), lease (ms)      ->  1 where it was put back
local text, more = ARGV[2], tonumber(ARGV[3])
local had = redis.call('HGET', KEYS[2], ARGV[1])
if had then
  local nano = tonumber(string.match(had, '^(%d+) '))
  if not nano or nano >= more then return 0 end
  more = more - nano
  local since_us = string.match(had, '^%d+ %d+ (%d+) ')
  text = string.gsub(text, '^(%d+ %d+) %d+ ', '%1 ' .. since_us .. ' ')
end
redis.call('HSET', KEYS[2], ARGV[1], text)
local clock = redis.call('TIME')
local lease_end = string.format('%.0f', clock[1] * 1000 + math.floor(clock[2] / 1000) + ARGV[4])
redis.call('ZADD', KEYS[3], lease_end, ARGV[1])
if redis.call('EXISTS', KEYS[1]) == 1 then
  redis.call('HINCRBY', KEYS[1], 'h', string.format('%.0f', more))
  local since_us = tonumber(string.match(text, '^%d+ %d+ (%d+) '))
  entitlement().move_entitled(KEYS[1], redis.call('HGET', KEYS[1], 'x'), since_us, more)
end
local i = 0
for items in string.gmatch(string.match(ARGV[2], '^%d+ %d+ %d+ (%S+) '), '=([^;]*)') do
  i = i + 1
  if string.match(',' .. items .. ',', ',c,') then redis.call('ZADD', KEYS[3 + 2 * i], lease_end, ARGV[1]) end
end
return 1
