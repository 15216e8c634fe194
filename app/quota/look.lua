-- One moment of a shard, whole: every entry its stream still has, and wallets as they stood with them.
-- KEYS  receipts wallet …      ->  {{id, fields} …}, {b, h, s, f, l} …
local seen = {redis.call('XRANGE', KEYS[1], '-', '+')}
for i = 2, #KEYS do seen[i] = redis.call('HMGET', KEYS[i], 'b', 'h', 's', 'f', 'l') end
return seen
