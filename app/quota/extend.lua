-- A running request needs more than was held for it: its hold grows, if the wallet can pay for that.
-- KEYS  wallet holds      ARGV  request, more (nano)
-- ->    {'ok'} | {'credit', available (nano)} | {'ended'}
local hold = redis.call('HGET', KEYS[2], ARGV[1])
local wallet = redis.call('HMGET', KEYS[1], 'b', 'h', 'f')
if not hold or not wallet[1] then return {'ended'} end
local available = wallet[1] - wallet[2] - wallet[3]
local more = tonumber(ARGV[2])
if more > available then return {'credit', string.format('%.0f', available)} end
local nano, rest = string.match(hold, '^(%d+)( .*)$')
redis.call('HINCRBY', KEYS[1], 'h', ARGV[2])
redis.call('HSET', KEYS[2], ARGV[1], string.format('%.0f', nano + more) .. rest)
return {'ok'}
