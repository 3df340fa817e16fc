-- Work items: what a worker does with the one that it has a lease of. -----------------------------
--
-- `cursor` is the next row. Rows [cursor, in_flight) are being worked on. Rows below `quarantined`
-- are tried one by one, because a worker died while they were in flight. An item with such rows is
-- quarantined: one worker takes it, and nothing beside it, so that the next death of that worker is
-- caused by its row (`crashes`) and not by another lane. `deaths` counts all since the cursor
-- moved, also those that are attributed to no row. A plan has no rows, and is never quarantined.

local function holds(job, item, token) return get(item_key(job, item), 'token') == token end

-- Whether the next row is one of those that are tried alone.
local function is_quarantined(job, item)
  if item == PLAN then return false end
  local key = item_key(job, item)
  return number(key, 'quarantined') > number(key, 'cursor')
end

local function extend(job, item, lease)
  call('ZADD', leases_key(queue_of(job)), now + lease, member_of(job, item))
end

local function end_lease(job, item)
  if call('ZREM', leases_key(queue_of(job)), member_of(job, item)) == 1 then unload(job, item) end
  call('HDEL', item_key(job, item), 'token', 'owner', 'worker', 'weight')
end

-- An item that leaves quarantine no longer needs all lanes of its worker.
local function leave_quarantine(job, item)
  local key = item_key(job, item)
  local weight = number(key, 'weight')
  if weight <= 1 or is_quarantined(job, item) then return end
  call('HINCRBY', load_key(queue_of(job)), get(key, 'worker'), 1 - weight)
  call('HSET', key, 'weight', 1)
end

local function put_back(job, item)
  end_lease(job, item)
  local state = get(job_key(job), 'state')
  if not state or FINAL_STATES[state] then
    forget_item(job, item)
    return
  end
  if WORKING[state] and is_quarantined(job, item) then
    call('RPUSH', quarantine_key(queue_of(job)), member_of(job, item))
    return
  end
  call('RPUSH', job_key(job) .. ':returned', item)
  if WORKING[state] then activate(job) end
end

local function complete(job, item)
  end_lease(job, item)
  forget_item(job, item)
  call('HINCRBY', job_key(job), 'finished_items', 1)
  finish_if_complete(job)
end

-- Gives an item back unfinished. `crashed`: work on it failed, as if its worker had died.
local function give_back(job, item, crashed)
  local key = item_key(job, item)
  local in_flight = number(key, 'in_flight')
  if crashed then
    call('HINCRBY', key, 'deaths', 1)
    if in_flight > number(key, 'quarantined') then
      call('HSET', key, 'quarantined', in_flight)
    elseif in_flight > number(key, 'cursor') then
      call('HINCRBY', key, 'crashes', 1)
    end
  end
  -- If the next worker dies before it touches a row, that death must not be attributed to one.
  call('HDEL', key, 'in_flight')
  put_back(job, item)
end

-- Speed is an exponentially weighted mean over about ten seconds, whoever reports.
local function measure(key, rows)
  local last = number(key, 'measured_at')
  call('HSET', key, 'measured_at', now)
  if last == 0 or now <= last then return end
  local weight = 1 - math.exp((last - now) / 10)
  local rate = number(key, 'rate')
  local seen = number(key, 'weight')
  call('HSET', key, 'rate', rate * (1 - weight) + weight * rows / (now - last),
    'weight', seen * (1 - weight) + weight)
end

-- Replies what a worker needs to go on with an item; nothing if the message is stale or the job
-- does not run.
function commands.begin(job, item, token, owner, lease)
  local key = item_key(job, item)
  if not holds(job, item, token) or get(key, 'owner') then return nil end
  if not WORKING[get(job_key(job), 'state')] then
    put_back(job, item)
    return nil
  end
  call('HSET', key, 'owner', owner)
  call('HDEL', ns .. ':workers:missed', owner)
  extend(job, item, lease)
  return named({
    job = call('HGETALL', job_key(job)),
    item = call('HGETALL', key),
    counts = call('HGETALL', key .. ':counts'),
  })
end

-- Replaces the counts of an item, and adds the difference to those of its job. Returns how many
-- rows more there are.
local function recount(job, item, counts)
  local before, changes, rows = item_key(job, item) .. ':counts', {}, 0
  local old = call('HGETALL', before)
  for i = 1, #old, 2 do changes[old[i]] = -tonumber(old[i + 1]) end
  call('DEL', before)
  for i = 1, #counts, 2 do
    changes[counts[i]] = (changes[counts[i]] or 0) + tonumber(counts[i + 1])
    call('HSET', before, counts[i], counts[i + 1])
  end
  for name, change in pairs(changes) do
    if change ~= 0 then call('HINCRBY', job_key(job) .. ':counts', name, change) end
    rows = rows + change
  end
  return rows
end

-- The whole progress of the item: `size` counts as names and values, then the part of the rejected
-- rows that counts up to the cursor now, if one does. Replies the job's state, or that the lease
-- was lost.
function commands.checkpoint(job, item, token, lease, cursor, in_flight, size, ...)
  if not holds(job, item, token) then return named({ error = 'lost' }) end
  local key, job_hash = item_key(job, item), job_key(job)
  if tonumber(cursor) > tonumber(get(key, 'cursor') or -1) then
    call('HSET', key, 'crashes', 0, 'deaths', 0)
  end
  call('HSET', key, 'cursor', cursor, 'in_flight', in_flight)
  leave_quarantine(job, item)
  local rest, counts = { ... }, {}
  local first = 2 * tonumber(size) + 1
  for i = 1, first - 1 do counts[i] = rest[i] end
  local rows = recount(job, item, counts)
  if rest[first] then call('ZADD', job_hash .. ':rejected', cursor, rest[first]) end
  extend(job, item, lease)
  -- Another item of the job can begin, and record that, while the service is still unavailable.
  if rows > 0 or item == PLAN then call('HDEL', job_hash, 'notice') end
  measure(job_hash, rows)
  return named({ state = get(job_hash, 'state') })
end

-- Whether the lease is still the caller's, who may have been frozen for longer than it lasted.
function commands.has_lease(job, item, token) return holds(job, item, token) and 1 or 0 end

function commands.finish(job, item, token)
  if holds(job, item, token) then complete(job, item) end
end

-- The first row that claims an image's id has it. Takes ids and rows; replies, for each id, the row
-- that has it. `scope` is a job, or an upload of several jobs, whose claims expire.
function commands.claim_ids(scope, seconds, ...)
  local key, pairs_, holders = claims_key(scope), { ... }, {}
  for i = 1, #pairs_, 2 do
    if call('HSETNX', key, pairs_[i], pairs_[i + 1]) == 1 then
      holders[#holders + 1] = pairs_[i + 1]
    else
      holders[#holders + 1] = call('HGET', key, pairs_[i])
    end
  end
  if #pairs_ > 0 then call('EXPIRE', key, seconds) end
  return holders
end

-- The plan is done: the job has so many rows, and is cut into shards. `skipped` is JSON.
function commands.planned(job, token, total, shard_size, version, skipped)
  if not holds(job, PLAN, token) then return end
  local key = job_key(job)
  local items = 1 + math.ceil(tonumber(total) / tonumber(shard_size))
  call('HSET', key, 'total', total, 'shard_size', shard_size, 'version', version, 'items', items,
    'skipped', skipped, 'started_at', now, 'measured_at', now)
  call('HDEL', key, 'notice')
  if get(key, 'state') == 'planning' then call('HSET', key, 'state', 'running') end
  complete(job, PLAN)
  if WORKING[get(key, 'state')] then activate(job) end
end

-- The source is not the one that was counted. Replies how often this has happened to the job, 0 if
-- nothing was done.
function commands.replan(job, item, token)
  if not holds(job, item, token) then return 0 end
  if not WORKING[get(job_key(job), 'state')] then
    put_back(job, item)
    return 0
  end
  start_over(job)
  return call('HINCRBY', job_key(job), 'replans', 1)
end

function commands.release(job, item, token, crashed)
  if holds(job, item, token) then give_back(job, item, crashed == '1') end
end

-- A service is unavailable, which is not the item's fault: it is tried again in `delay` seconds.
-- `avoid`: for so many seconds by other workers only, since this one's host lacks the source.
function commands.retry_later(job, item, token, delay, notice, avoid)
  if not holds(job, item, token) then return end
  if FINAL_STATES[get(job_key(job), 'state')] then
    put_back(job, item)
    return
  end
  if tonumber(avoid) > 0 then
    call('ZADD', elsewhere, now + avoid, avoidance(job, get(item_key(job, item), 'owner')))
  end
  end_lease(job, item)
  call('ZADD', ns .. ':waiting', now + delay, member_of(job, item))
  if notice ~= '' then call('HSET', job_key(job), 'notice', notice) end
end
