-- Which server vouches for a shard's working copy. Where it is another than this one, that copy may lack its last writes:
-- wallets, and what was counted in windows, are dropped, and rebuilt from the database when they are next needed. Holds,
-- leases and the stream stay: a rebuild reads them.
-- KEYS  epoch, then wallets and `use` hashes of the shard      ARGV  identity of this server
-- ->    the epoch: `<identity> <since, us>`
local known = redis.call('GET', KEYS[1])
if known and string.match(known, '^(%S+) %d+$') == ARGV[1] then return known end
for i = 2, #KEYS do
  if string.find(KEYS[i], '}:wallet:', 1, true) then
    redis.call('DEL', KEYS[i])
  else
    -- Levels of a minute's limits leak away by themselves; only the counters of windows have a start.
    for _, field in ipairs(redis.call('HKEYS', KEYS[i])) do
      local name = string.match(field, '^(.+)@$')
      if name then redis.call('HDEL', KEYS[i], name, name .. '+', field) end
    end
  end
end
local clock = redis.call('TIME')
local epoch = ARGV[1] .. ' ' .. string.format('%.0f', clock[1] * 1000000 + clock[2])
redis.call('SET', KEYS[1], epoch)
return epoch
