-- Applies one numbered entry of the journal to the wallet: a credit, or a new credit line. They are numbered by account,
-- so each is applied once, in order.
-- KEYS  wallet holds
-- ARGV  number, amount (nano), lot (`id:remaining:expires_ms:promo`, or empty), the account's floor as it is now (nano), or empty,
--       account
-- ->    'ok' | 'done' (applied before) | 'gap' (an earlier one is missing) | 'cold'
local wallet = redis.call('HMGET', KEYS[1], 'b', 's', 'l', 'x')
if not wallet[1] then return 'cold' end
local number, last = tonumber(ARGV[1]), tonumber(wallet[2])
if number <= last then return 'done' end
if number > last + 1 then return 'gap' end

-- Spending order: promotional lots first; within that what expires next, what never does last; then the older one.
local function parse(lot)
  local id, expires, promo = string.match(lot, '^([^:]+):%d+:(%d+):(%d)$')
  return id, expires == '0' and math.huge or tonumber(expires), tonumber(promo)
end
local function before(one, other)
  local id, expires, promo = parse(one)
  local other_id, other_expires, other_promo = parse(other)
  if promo ~= other_promo then return promo > other_promo end
  if expires ~= other_expires then return expires < other_expires end
  return id < other_id
end
redis.call('HINCRBY', KEYS[1], 'b', ARGV[2])
redis.call('HSET', KEYS[1], 's', ARGV[1])
if ARGV[4] ~= '' then redis.call('HSET', KEYS[1], 'f', ARGV[4]) end
if ARGV[3] ~= '' then
  local lots, at = {}, nil
  for lot in string.gmatch(wallet[3] or '', '%S+') do
    if not at and before(ARGV[3], lot) then
      at = true
      lots[#lots + 1] = ARGV[3]
    end
    lots[#lots + 1] = lot
  end
  if not at then lots[#lots + 1] = ARGV[3] end
  redis.call('HSET', KEYS[1], 'l', table.concat(lots, ' '))
  -- One that comes after it has expired: of what is held, some may have been admitted before, and some after that.
  local clock = redis.call('TIME')
  local now_ms = clock[1] * 1000 + math.floor(clock[2] / 1000)
  local credit = entitlement()
  if credit.expired_lots(ARGV[3], '', 0, now_ms)[1] then
    local late = credit.count_entitled(ARGV[5], ARGV[3], redis.call('HVALS', KEYS[2]), now_ms)
    redis.call('HSET', KEYS[1], 'x', late .. ' ' .. (wallet[4] or ''))
  end
end
return 'ok'
