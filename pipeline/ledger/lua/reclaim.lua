-- Reclaim: takes back what nobody works on any more. ----------------------------------------------

-- If no reconciler has called for so many seconds, that is no worker's fault.
local SILENCE = 10

-- If nobody has called for long, Redis was unavailable or frozen, and no worker could send a
-- heartbeat: all workers are given the time to do so before they are judged.
local function during_amnesty(alive)
  local last = tonumber(call('GET', ns .. ':reconciled') or now)
  call('SET', ns .. ':reconciled', now)
  if now - last > math.max(alive, SILENCE) then call('SET', ns .. ':amnesty', now + alive) end
  return now < tonumber(call('GET', ns .. ':amnesty') or 0)
end

local function last_heartbeat(worker)
  return tonumber(call('ZSCORE', ns .. ':workers', worker) or 0)
end

local function put_back_what_has_waited()
  local due = call('ZRANGEBYSCORE', ns .. ':waiting', '-inf', now)
  for _, member in ipairs(due) do
    call('ZREM', ns .. ':waiting', member)
    put_back(split(member))
  end
  return #due
end

-- Takes back every lease of a queue whose time is up or whose worker is gone.
local function reclaim_queue(queue, alive, alone, amnesty)
  local reclaimed = 0
  local leases = call('ZRANGE', leases_key(queue), 0, -1, 'WITHSCORES')
  for i = 1, #leases, 2 do
    local job, item = split(leases[i])
    local owner = get(item_key(job, item), 'owner')
    local lost = owner and alone ~= '' and owner ~= alone
    local late = tonumber(leases[i + 1]) < now or (owner and last_heartbeat(owner) < now - alive)
    if lost or (late and not (owner and amnesty)) then
      give_back(job, item, owner)
      reclaimed = reclaimed + 1
    end
  end
  return reclaimed
end

-- `alone`: the calling worker owns the store, so whatever another worker holds is lost. Replies how
-- many items were taken back.
function commands.reclaim(alive, alone)
  local amnesty = during_amnesty(alive)
  local reclaimed = put_back_what_has_waited()
  for _, queue in ipairs(queues()) do
    reclaimed = reclaimed + reclaim_queue(queue, alive, alone, amnesty)
  end
  return reclaimed
end
