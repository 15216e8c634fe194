-- Drops the entries of a stream that its group has acknowledged, and that are older than the time to keep.
-- KEYS  stream      ARGV  group, time to keep (ms)      ->  how many were dropped
local function parts(id)
  local ms, seq = string.match(id, '^(%d+)-(%d+)$')
  return tonumber(ms), tonumber(seq)
end
if redis.call('XLEN', KEYS[1]) == 0 then return 0 end
local pending = redis.call('XPENDING', KEYS[1], ARGV[1])
local ms, seq
if pending[1] > 0 then
  ms, seq = parts(pending[2])
else
  for _, group in ipairs(redis.call('XINFO', 'GROUPS', KEYS[1])) do
    local named = {}
    for i = 1, #group, 2 do named[group[i]] = group[i + 1] end
    if named['name'] == ARGV[1] then
      ms, seq = parts(named['last-delivered-id'])
      seq = seq + 1
    end
  end
end
local keep_from = redis.call('TIME')[1] * 1000 - tonumber(ARGV[2])
if keep_from < ms then ms, seq = keep_from, 0 end
return redis.call('XTRIM', KEYS[1], 'MINID', string.format('%.0f-%.0f', ms, seq))
