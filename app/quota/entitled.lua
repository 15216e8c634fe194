-- Which expired credit may still be spent, and by whom. Stands in front of the scripts that ask (scripts.py).
-- A lot pays for requests that were admitted before it expired: their holds counted on it. It pays for nobody else. The
-- wallet's `x` has, for each time at which a lot expired, what such requests still hold: `expires_ms:nano` each. The first
-- admission after an expiry writes it; until then all that is held was admitted before.

-- Called only where a wallet has such lots: most have none, and to make the functions below takes time.
local function entitlement()
  local credit = {}

  -- The expired lots of a wallet, what expired first before the others, which is the order in which they are spent: `kept`
  -- is what those hold that may spend it. And the sum of what nobody may spend.
  function credit.expired_lots(lots, entitled, held, now_ms)
    local found, lost, spoken_for = {}, 0, 0
    for id, left, expires in string.gmatch(lots or '', '([^: ]+):(%d+):(%d+):%d') do
      if expires ~= '0' and tonumber(expires) <= now_ms then
        local own = string.match(' ' .. (entitled or ''), ' ' .. expires .. ':(%d+)')
        found[#found + 1] = {id = id, left = tonumber(left), expires = tonumber(expires), is_known = own ~= nil,
          held = tonumber(own or held), place = #found}
      end
    end
    if not found[1] then return found, 0 end
    table.sort(found, function(one, other)
      if one.expires ~= other.expires then return one.expires < other.expires end
      return one.place < other.place
    end)
    for _, lot in ipairs(found) do
      -- Who may spend this lot may spend those that expired later: a hold counts on one of them, as early as it can.
      lot.kept = math.min(lot.left, math.max(0, lot.held - spoken_for))
      spoken_for = spoken_for + lot.kept
      lost = lost + lot.left - lot.kept
    end
    return found, lost
  end

  -- Before a request is admitted: what is held by those that came before each expiry, where `x` does not say so yet.
  function credit.note_entitled(wallet, expired)
    local known, all_known = {}, true
    for i, lot in ipairs(expired) do
      all_known = all_known and lot.is_known
      known[i] = string.format('%.0f:%.0f', lot.expires, lot.held)
    end
    if not all_known then redis.call('HSET', wallet, 'x', table.concat(known, ' ')) end
  end

  -- A hold has changed by so much, of a request that was admitted at `since_us`.
  function credit.move_entitled(wallet, entitled, since_us, nano)
    if not entitled or entitled == '' or nano == 0 then return end
    redis.call('HSET', wallet, 'x', (string.gsub(entitled, '(%d+):(%d+)', function(expires, held)
      if since_us < expires * 1000 then return string.format('%s:%.0f', expires, math.max(0, held + nano)) end
    end)))
  end

  -- `x` of a wallet, where nobody kept it: counted from the holds of its shard.
  function credit.count_entitled(account, lots, holds, now_ms)
    local known = {}
    for expires in string.gmatch(lots, ':%d+:(%d+):%d') do
      if expires ~= '0' and tonumber(expires) <= now_ms then
        local held = 0
        for _, hold in ipairs(holds) do
          local nano, since_us, payer = string.match(hold, '^(%d+) %d+ (%d+) %S+ (%S+)')
          if payer == account and tonumber(since_us) < expires * 1000 then held = held + nano end
        end
        known[#known + 1] = string.format('%s:%.0f', expires, held)
      end
    end
    return table.concat(known, ' ')
  end

  return credit
end
