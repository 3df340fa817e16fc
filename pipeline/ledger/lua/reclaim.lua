-- Reclaim: takes back what nobody works on any more. ----------------------------------------------

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

-- Whether a lease is over: its time is up, or the worker that it is for has gone.
local function is_over(deadline, owner, worker, alive, alone)
  if owner and alone ~= '' and owner ~= alone then return true end
  local holder = owner or worker
  return deadline < now or (holder and last_heartbeat(holder) < now - alive)
end

-- A live worker has not begun a lease that was for it.
local function count_missed(worker)
  if worker and last_heartbeat(worker) > 0 then
    call('HINCRBY', ns .. ':workers:missed', worker, 1)
  end
end

-- Takes back the leases of a queue that are over, and counts anew how many each worker has, since a
-- worker of another version can have ended some.
local function reclaim_queue(queue, alive, alone)
  local reclaimed, load = 0, {}
  local leases = call('ZRANGE', leases_key(queue), 0, -1, 'WITHSCORES')
  for i = 1, #leases, 2 do
    local job, item = split(leases[i])
    local found = call('HMGET', item_key(job, item), 'owner', 'worker', 'weight')
    local owner, worker = found[1], found[2]
    if is_over(tonumber(leases[i + 1]), owner, worker, alive, alone) then
      if not owner then count_missed(worker) end
      give_back(job, item, owner)
      reclaimed = reclaimed + 1
    elseif worker or owner then
      local holder = worker or owner
      load[holder] = (load[holder] or 0) + tonumber(found[3] or 1)
    end
  end
  call('DEL', load_key(queue))
  for worker, lanes in pairs(load) do call('HSET', load_key(queue), worker, lanes) end
  return reclaimed
end

-- `alone`: the calling worker owns the store, so whatever another worker holds is lost. Workers all
-- call it; it does nothing if one has within the last `pause` seconds. Replies how many items were
-- taken back.
function commands.reclaim(alive, alone, pause)
  local last = tonumber(call('GET', reconciled) or 0)
  if now >= last and now - last < tonumber(pause) then return 0 end
  call('SET', reconciled, now)
  call('ZREMRANGEBYSCORE', elsewhere, '-inf', now)
  local reclaimed = put_back_what_has_waited()
  for _, queue in ipairs(queues()) do
    reclaimed = reclaimed + reclaim_queue(queue, alive, alone)
  end
  return reclaimed
end
