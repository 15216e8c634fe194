-- Requests whose lease has run out, with their holds: their worker is gone. Those that never began end here.
-- KEYS  leases holds      ARGV  how many at most      ->  {request, hold, request, hold, …}
local clock = redis.call('TIME')
local overdue = redis.call('ZRANGEBYSCORE', KEYS[1], '-inf', clock[1] * 1000 + math.floor(clock[2] / 1000), 'LIMIT', 0, ARGV[1])
local found = {}
for _, request in ipairs(overdue) do
  local hold = redis.call('HGET', KEYS[2], request)
  if hold == 'void' then
    redis.call('HDEL', KEYS[2], request)
    redis.call('ZREM', KEYS[1], request)
  elseif hold then
    found[#found + 1] = request
    found[#found + 1] = hold
  else
    redis.call('ZREM', KEYS[1], request)
  end
end
return found
