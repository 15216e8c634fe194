-- Applies one credit of the journal to the wallet. Credits are numbered by account, so each is applied once, in order.
-- KEYS  wallet      ARGV  number of the credit, amount (nano; may be negative)
-- ->    'ok' | 'done' (applied before) | 'gap' (an earlier one is missing) | 'cold'
local wallet = redis.call('HMGET', KEYS[1], 'b', 's')
if not wallet[1] then return 'cold' end
local number, last = tonumber(ARGV[1]), tonumber(wallet[2])
if number <= last then return 'done' end
if number > last + 1 then return 'gap' end
redis.call('HINCRBY', KEYS[1], 'b', ARGV[2])
redis.call('HSET', KEYS[1], 's', ARGV[1])
return 'ok'
