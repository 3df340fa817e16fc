-- Dispatch: which items go out now, and to whom. --------------------------------------------------
--
-- Every lease is for one worker that has a free lane, the one with the most; so no worker holds
-- more than its lanes, and each has a thread left for a search. An item in quarantine takes all
-- lanes of its worker: if that dies, its row alone can be the cause. All others work on meanwhile.

-- Seconds until an item that nobody has begun is dispatched again: its message was lost, together
-- with the worker or the Redis that had it.
local BEGUN_WITHIN = 10

local function reserved_key(queue) return ns .. ':reserved:' .. queue end

-- Whether the worker's host lacks the source of the job, as of late.
local function is_avoided(job, worker)
  local ends = call('ZSCORE', elsewhere, avoidance(job, worker))
  return ends and tonumber(ends) > now
end

local function runs(job) return WORKING[get(job_key(job), 'state')] end

local function next_item(job)
  local key = job_key(job)
  local item = call('LPOP', key .. ':returned')
  if item then return item end
  local position = number(key, 'next_item')
  if position >= number(key, 'items') then return nil end
  call('HSET', key, 'next_item', position + 1)
  return tostring(position)
end

-- The next item of the active jobs, in turn, for a worker whose host has their sources. One that is
-- quarantined goes where those wait.
local function next_of(queue, worker)
  local active = active_key(queue)
  local left = call('LLEN', active)
  while left > 0 do
    local job = call('LPOP', active)
    local avoided = is_avoided(job, worker)
    local item = not avoided and runs(job) and next_item(job)
    if avoided or item then call('RPUSH', active, job) end
    if item and not is_quarantined(job, item) then return job, item end
    if item then
      call('RPUSH', quarantine_key(queue), member_of(job, item))
    else
      left = left - 1
    end
  end
end

local function lease_out(job, item, queue, worker, weight, seconds)
  local token = tostring(call('INCR', ns .. ':tokens'))
  call('HSET', item_key(job, item), 'token', token, 'worker', worker, 'weight', weight)
  call('ZADD', leases_key(queue), now + math.min(seconds, BEGUN_WITHIN), member_of(job, item))
  call('HINCRBY', load_key(queue), worker, weight)
  return named({ job = job, item = item, token = token, queue = queue, worker = worker,
    operation = get(job_key(job), 'operation') })
end

-- One entry for each free lane, those of the least busy workers first. A worker that did not begin
-- its last lease gets one at a time: no message may reach it.
local function free_lanes(queue, workers)
  local lanes, load = fields_of(lanes_key(queue)), fields_of(load_key(queue))
  local missed, free = fields_of(ns .. ':workers:missed'), {}
  for _, worker in ipairs(workers) do
    local all = tonumber(lanes[worker] or 0)
    local usable = missed[worker] and math.min(all, 1) or all
    for taken = tonumber(load[worker] or 0), usable - 1 do
      free[#free + 1] = { worker = worker, taken = taken, lanes = all }
    end
  end
  table.sort(free, function(one, other)
    local left, right = one.taken / one.lanes, other.taken / other.lanes
    return left < right or (left == right and one.worker < other.worker)
  end)
  return free
end

local function without(free, worker)
  local others = {}
  for _, lane in ipairs(free) do
    if lane.worker ~= worker then others[#others + 1] = lane end
  end
  return others
end

-- The first free lane of a worker whose host has the source of the job.
local function lane_for(job, free)
  for _, lane in ipairs(free) do
    if not is_avoided(job, lane.worker) then return lane end
  end
end

-- Workers that open a source, which can take an hour.
local function planners(queue)
  local found = {}
  for _, member in ipairs(call('ZRANGE', leases_key(queue), 0, -1)) do
    local job, item = split(member)
    if item == PLAN then found[get(item_key(job, item), 'worker') or ''] = true end
  end
  return found
end

-- One worker gets nothing new until it is idle, so that it can take this job's item in quarantine.
-- Replies the lanes of the others.
local function reserve(queue, job, workers, free)
  local reserved, planning = call('GET', reserved_key(queue)), planners(queue)
  local function suits(worker)
    local lanes = number(lanes_key(queue), worker) -- one that takes no work has none
    return lanes > 0 and not planning[worker] and not is_avoided(job, worker)
  end
  for _, worker in ipairs(workers) do
    if worker == reserved and suits(worker) then return without(free, worker) end
  end
  for _, lane in ipairs(free) do
    if suits(lane.worker) then
      call('SET', reserved_key(queue), lane.worker)
      return without(free, lane.worker)
    end
  end
  return free
end

-- Items in quarantine whose jobs run; those of a paused job stay where they are.
local function quarantined_items(queue)
  local items = {}
  for _, member in ipairs(call('LRANGE', quarantine_key(queue), 0, -1)) do
    if runs((split(member))) then items[#items + 1] = member end
  end
  return items
end

-- Replies the lanes that are still free.
local function dispatch_quarantined(queue, workers, free, seconds, leased)
  for _, member in ipairs(quarantined_items(queue)) do
    if #free == 0 then return free end
    local job, item = split(member)
    local lane = lane_for(job, free)
    if lane and lane.taken > 0 then return reserve(queue, job, workers, free) end
    if lane then
      call('LREM', quarantine_key(queue), 1, member)
      leased[#leased + 1] = lease_out(job, item, queue, lane.worker, lane.lanes, seconds)
      free = without(free, lane.worker)
    end
  end
  call('DEL', reserved_key(queue))
  return free
end

local function dispatch_queue(queue, workers, seconds, leased)
  if call('LLEN', active_key(queue)) + call('LLEN', quarantine_key(queue)) == 0 then return end
  local free, idle = free_lanes(queue, workers), {}
  for _, lane in ipairs(dispatch_quarantined(queue, workers, free, seconds, leased)) do
    local job, item
    if not idle[lane.worker] then job, item = next_of(queue, lane.worker) end
    if job then
      leased[#leased + 1] = lease_out(job, item, queue, lane.worker, 1, seconds)
    else
      idle[lane.worker] = true -- there is nothing for its other lanes either
    end
  end
end

-- Work goes only to workers whose heartbeat is not late.
function commands.dispatch(seconds, alive)
  local workers = call('ZRANGEBYSCORE', ns .. ':workers', now - alive / 2, '+inf')
  local leased = {}
  for _, queue in ipairs(queues()) do dispatch_queue(queue, workers, seconds, leased) end
  return leased
end
