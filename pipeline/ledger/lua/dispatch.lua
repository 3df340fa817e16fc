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

-- Whether the next lane of one worker comes before that of the other: of the less busy first.
local function comes_first(one, other)
  if one.busy ~= other.busy then return one.busy < other.busy end
  return one.worker < other.worker
end

-- The workers with a free lane, the least busy first. One that did not begin its last lease gets
-- one at a time: no message may reach it.
local function free_workers(queue, workers)
  local lanes, load = fields_of(lanes_key(queue)), fields_of(load_key(queue))
  local missed, free = fields_of(ns .. ':workers:missed'), {}
  for _, worker in ipairs(workers) do
    local all, taken = tonumber(lanes[worker] or 0), tonumber(load[worker] or 0)
    local usable = missed[worker] and math.min(all, 1) or all
    if taken < usable then
      free[#free + 1] = { worker = worker, taken = taken, lanes = all, usable = usable,
        busy = taken / all }
    end
  end
  table.sort(free, comes_first)
  return free
end

-- One more lane of the first worker is taken: it goes to its place among the others, if it has
-- another.
local function take_lane(free)
  local first = table.remove(free, 1)
  first.taken = first.taken + 1
  first.busy = first.taken / first.lanes
  if first.taken >= first.usable then return end
  local place = 1
  while free[place] and comes_first(free[place], first) do place = place + 1 end
  table.insert(free, place, first)
end

local function without(free, worker)
  local others = {}
  for _, each in ipairs(free) do
    if each.worker ~= worker then others[#others + 1] = each end
  end
  return others
end

-- The first worker with a free lane whose host has the source of the job.
local function worker_for(job, free)
  for _, each in ipairs(free) do
    if not is_avoided(job, each.worker) then return each end
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
-- Replies the others.
local function reserve(queue, job, workers, free)
  local reserved, planning = call('GET', reserved_key(queue)), planners(queue)
  local function suits(worker)
    local lanes = number(lanes_key(queue), worker) -- one that takes no work has none
    return lanes > 0 and not planning[worker] and not is_avoided(job, worker)
  end
  for _, worker in ipairs(workers) do
    if worker == reserved and suits(worker) then return without(free, worker) end
  end
  for _, each in ipairs(free) do
    if suits(each.worker) then
      call('SET', reserved_key(queue), each.worker)
      return without(free, each.worker)
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

-- Replies the workers that still have a free lane. Stops at `most` leases.
local function dispatch_quarantined(queue, workers, free, seconds, leased, most)
  for _, member in ipairs(quarantined_items(queue)) do
    if #free == 0 or #leased >= most then return free end
    local job, item = split(member)
    local idle = worker_for(job, free)
    if idle and idle.taken > 0 then return reserve(queue, job, workers, free) end
    if idle then
      call('LREM', quarantine_key(queue), 1, member)
      leased[#leased + 1] = lease_out(job, item, queue, idle.worker, idle.lanes, seconds)
      free = without(free, idle.worker)
    end
  end
  call('DEL', reserved_key(queue))
  return free
end

local function dispatch_queue(queue, workers, seconds, leased, most)
  if call('LLEN', active_key(queue)) + call('LLEN', quarantine_key(queue)) == 0 then return end
  local free = free_workers(queue, workers)
  free = dispatch_quarantined(queue, workers, free, seconds, leased, most)
  while #free > 0 and #leased < most do
    local worker = free[1].worker
    local job, item = next_of(queue, worker)
    if job then
      leased[#leased + 1] = lease_out(job, item, queue, worker, 1, seconds)
      take_lane(free)
    else
      table.remove(free, 1) -- there is nothing for its other lanes either
    end
  end
end

-- Work goes only to workers whose heartbeat is not late. Redis does nothing else meanwhile, so a
-- call leases at most so many items; who gets as many calls again.
function commands.dispatch(seconds, alive, most)
  local workers = call('ZRANGEBYSCORE', ns .. ':workers', now - alive / 2, '+inf')
  local leased = {}
  for _, queue in ipairs(queues()) do
    dispatch_queue(queue, workers, seconds, leased, tonumber(most))
  end
  return leased
end
