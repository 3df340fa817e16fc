-- Dispatch: which items go out now, queue by queue. -----------------------------------------------

-- Seconds until an item that nobody has begun is dispatched again. Lanes are free when it goes out,
-- so its message was lost, together with the worker or the Redis that had it.
local BEGUN_WITHIN = 10

local function next_item(job)
  local key = job_key(job)
  local item = call('LPOP', key .. ':returned')
  if item then return item end
  local position = number(key, 'next_item')
  if position >= number(key, 'items') then return nil end
  call('HSET', key, 'next_item', position + 1)
  return tostring(position)
end

local function lease_out(job, item, queue, seconds)
  local token = tostring(call('INCR', ns .. ':tokens'))
  call('HSET', item_key(job, item), 'token', token)
  call('ZADD', leases_key(queue), now + math.min(seconds, BEGUN_WITHIN), member_of(job, item))
  return named({ job = job, item = item, token = token, queue = queue,
    operation = get(job_key(job), 'operation') })
end

local function a_quarantined_item_is_out(queue)
  for _, member in ipairs(call('ZRANGE', leases_key(queue), 0, -1)) do
    if is_quarantined(split(member)) then return true end
  end
  return false
end

-- Leases items in turn from all active jobs of a queue, while fewer are out than the workers have
-- lanes. A quarantined item waits until nothing else is out, and then everything else waits for it.
local function dispatch_queue(queue, capacity, lease, leased)
  if a_quarantined_item_is_out(queue) then return end
  local leases, active = leases_key(queue), active_key(queue)
  while call('ZCARD', leases) < capacity do
    local job = call('LPOP', active)
    if not job then return end
    local item = WORKING[get(job_key(job), 'state')] and next_item(job)
    local quarantined = item and is_quarantined(job, item)
    if quarantined and call('ZCARD', leases) > 0 then
      call('LPUSH', job_key(job) .. ':returned', item)
      call('LPUSH', active, job)
      return
    end
    if item then
      call('RPUSH', active, job)
      leased[#leased + 1] = lease_out(job, item, queue, lease)
      if quarantined then return end
    end
  end
end

-- The lanes that the live workers have for a queue. Where no worker lives, one item may go out: its
-- message waits for the first worker that comes.
local function capacity_of(queue, workers)
  if #workers == 0 then return 1 end
  local lanes = 0
  for _, worker in ipairs(workers) do
    lanes = lanes + number(ns .. ':workers:lanes:' .. worker, queue)
  end
  return lanes
end

function commands.dispatch(lease, alive)
  local workers = call('ZRANGEBYSCORE', ns .. ':workers', now - alive, '+inf')
  local leased = {}
  for _, queue in ipairs(queues()) do
    dispatch_queue(queue, capacity_of(queue, workers), lease, leased)
  end
  return leased
end
