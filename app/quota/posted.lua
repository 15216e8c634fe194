-- How far the bookkeeper has come with a shard's stream, and in which epoch: up to there all of it is in the database, or
-- set aside.
-- KEYS  receipts epoch      ARGV  group      ->  {epoch (or empty), id of an entry}
local id = '0-0'
local pending = redis.pcall('XPENDING', KEYS[1], ARGV[1])
if not pending.err then
  if pending[1] > 0 then
    local ms, seq = string.match(pending[2], '^(%d+)-(%d+)$') -- this one is not posted: the one before it is
    id = seq == '0' and string.format('%.0f-%s', ms - 1, '18446744073709551615') or ms .. '-' .. string.format('%.0f', seq - 1)
  else
    for _, group in ipairs(redis.call('XINFO', 'GROUPS', KEYS[1])) do
      local named = {}
      for i = 1, #group, 2 do named[group[i]] = group[i + 1] end
      if named['name'] == ARGV[1] then id = named['last-delivered-id'] end
    end
  end
end
return {redis.call('GET', KEYS[2]) or '', id}
