-- The ledger: every change of state, each one atomic. Called as EVALSHA … COMMAND ARG…
--
-- kindred:jobs                    zset   job id -> created at
-- kindred:job:ID                  hash   source version state total embedded unchanged rejected
--                                        shard_size units next done rate replans created_at …
-- kindred:job:ID:returned         list   units to hand out again
-- kindred:job:ID:rejections       hash   row -> JSON
-- kindred:active                  list   jobs with units to hand out, the next one first
-- kindred:unit:ID:N               hash   token owner cursor hand careful crashes deaths counts
-- kindred:leases                  zset   ID:N -> deadline
-- kindred:waiting                 zset   ID:N -> not before (released, because a service was away)
-- kindred:workers                 zset   worker -> last heartbeat;  kindred:workers:lanes  hash
-- kindred:ask:ID                  hash   kind state owner attempts created_at error
-- kindred:asks                    zset   open asks -> when to look again
-- kindred:asks:expiry             zset   ask -> when its blobs go
-- kindred:tombstones              set    marks of what was deleted
-- kindred:job:ID:watching         set    deletions that were asked for while the job ran
--
-- Unit 0 of a job is its plan; unit N is rows [(N-1) * shard_size, N * shard_size).
-- `cursor` is the next row; rows [cursor, hand) are in the worker's hand; rows below `careful` are
-- tried one by one, because a worker died with them in hand. Such a unit is a suspect: it is handed
-- out while nothing else is, so that its worker's next death is its row's doing (`crashes`), not
-- that of another lane. `deaths` counts all since the cursor moved, also those that blame no row.

local time = redis.call('TIME')
local now = tonumber(time[1]) + tonumber(time[2]) / 1e6

local function job_key(job) return 'kindred:job:' .. job end
local function unit_key(job, unit) return 'kindred:unit:' .. job .. ':' .. unit end
local function get(key, field) return redis.call('HGET', key, field) end
local function number(key, field) return tonumber(get(key, field) or 0) end

-- Seconds until a unit that nobody has begun is sent again. Lanes are free when it is handed out, so
-- its message was lost, with the worker or the Redis that had it.
local BEGUN_WITHIN = 10

-- Seconds without a call of any reconciler that are no worker's fault.
local SILENCE = 10

local FINAL = { succeeded = true, completed_with_rejections = true, failed = true, cancelled = true }
local WORKING = { planning = true, running = true }

local function activate(job)
  if not redis.call('LPOS', 'kindred:active', job) then
    redis.call('RPUSH', 'kindred:active', job)
  end
end

local function put_back(job, unit)
  redis.call('ZREM', 'kindred:leases', job .. ':' .. unit)
  redis.call('HDEL', unit_key(job, unit), 'token', 'owner')
  local state = get(job_key(job), 'state')
  if not state or FINAL[state] then
    redis.call('DEL', unit_key(job, unit))
    return
  end
  redis.call('RPUSH', job_key(job) .. ':returned', unit)
  if WORKING[state] then activate(job) end
end

local function settle(job)
  local key = job_key(job)
  if FINAL[get(key, 'state')] or number(key, 'done') < number(key, 'units') then return end
  local state = number(key, 'rejected') > 0 and 'completed_with_rejections' or 'succeeded'
  redis.call('HSET', key, 'state', state, 'finished_at', now)
  redis.call('HDEL', key, 'notice')
end

local function complete(job, unit)
  redis.call('ZREM', 'kindred:leases', job .. ':' .. unit)
  redis.call('DEL', unit_key(job, unit))
  redis.call('HINCRBY', job_key(job), 'done', 1)
  settle(job)
end

-- With what they have come to: should the job begin anew, so do they.
local function forget_returned(job)
  local list = job_key(job) .. ':returned'
  for _, unit in ipairs(redis.call('LRANGE', list, 0, -1)) do
    redis.call('DEL', unit_key(job, unit))
  end
  redis.call('DEL', list)
end

local function end_job(job, state, error)
  local key = job_key(job)
  redis.call('HSET', key, 'state', state, 'finished_at', now)
  redis.call('HDEL', key, 'notice')
  if error then redis.call('HSET', key, 'error', error) end
  redis.call('LREM', 'kindred:active', 0, job)
  forget_returned(job)
end

local function holds(job, unit, token)
  return get(unit_key(job, unit), 'token') == token
end

-- An exponentially weighted mean over about ten seconds, whoever reports.
local function measure(key, images)
  local last = number(key, 'measured_at')
  redis.call('HSET', key, 'measured_at', now)
  if last == 0 or now <= last then return end
  local weight = 1 - math.exp((last - now) / 10)
  local rate = number(key, 'rate')
  local seen = number(key, 'weight')
  redis.call('HSET', key, 'rate', rate * (1 - weight) + weight * images / (now - last),
    'weight', seen * (1 - weight) + weight)
end

local function suspected(job, unit)
  local key = unit_key(job, unit)
  return number(key, 'careful') > number(key, 'cursor')
end

local function a_suspect_is_out()
  for _, member in ipairs(redis.call('ZRANGE', 'kindred:leases', 0, -1)) do
    if suspected(string.match(member, '^(.*):(%d+)$')) then return true end
  end
  return false
end

local function next_unit(job)
  local key = job_key(job)
  local unit = redis.call('LPOP', key .. ':returned')
  if unit then return unit end
  local position = number(key, 'next')
  if position >= number(key, 'units') then return nil end
  redis.call('HSET', key, 'next', position + 1)
  return tostring(position)
end

local commands = {}

function commands.create_job(job, source)
  if redis.call('EXISTS', job_key(job)) == 1 then return 0 end
  redis.call('HSET', job_key(job), 'source', source, 'state', 'planning', 'units', 1, 'next', 0,
    'done', 0, 'embedded', 0, 'unchanged', 0, 'rejected', 0, 'created_at', now)
  redis.call('ZADD', 'kindred:jobs', now, job)
  activate(job)
  return 1
end

-- Leases units in turn from all active jobs, while fewer are out than the workers have lanes. A
-- suspect waits until nothing else is out, and then everything else waits for it.
function commands.dispatch(lease, alive, lanes)
  local workers = redis.call('ZRANGEBYSCORE', 'kindred:workers', now - alive, '+inf')
  local capacity = 0
  for _, worker in ipairs(workers) do
    capacity = capacity + number('kindred:workers:lanes', worker)
  end
  if capacity == 0 then capacity = tonumber(lanes) end
  local leased = {}
  if a_suspect_is_out() then return leased end
  while redis.call('ZCARD', 'kindred:leases') < capacity do
    local job = redis.call('LPOP', 'kindred:active')
    if not job then break end
    local unit = WORKING[get(job_key(job), 'state')] and next_unit(job)
    local suspect = unit and suspected(job, unit)
    if suspect and redis.call('ZCARD', 'kindred:leases') > 0 then
      redis.call('LPUSH', job_key(job) .. ':returned', unit)
      redis.call('LPUSH', 'kindred:active', job)
      break
    end
    if unit then
      redis.call('RPUSH', 'kindred:active', job)
      local token = tostring(redis.call('INCR', 'kindred:tokens'))
      redis.call('HSET', unit_key(job, unit), 'token', token)
      local deadline = now + math.min(lease, BEGUN_WITHIN)
      redis.call('ZADD', 'kindred:leases', deadline, job .. ':' .. unit)
      leased[#leased + 1] = { job, unit, token }
      if suspect then break end
    end
  end
  return leased
end

-- What a worker needs to go on with a unit; nothing, if the message is stale or the job stands still.
function commands.begin(job, unit, token, owner, lease)
  if not holds(job, unit, token) or get(unit_key(job, unit), 'owner') then return nil end
  local key = job_key(job)
  if not WORKING[get(key, 'state')] then
    put_back(job, unit)
    return nil
  end
  local unit_hash = unit_key(job, unit)
  redis.call('HSET', unit_hash, 'owner', owner)
  redis.call('ZADD', 'kindred:leases', now + lease, job .. ':' .. unit)
  return { get(key, 'source'), get(key, 'total') or '0', get(key, 'shard_size') or '0',
    get(unit_hash, 'cursor') or '-1', get(unit_hash, 'careful') or '0',
    get(unit_hash, 'crashes') or '0', get(unit_hash, 'embedded') or '0',
    get(unit_hash, 'unchanged') or '0', get(unit_hash, 'rejected') or '0',
    get(unit_hash, 'deaths') or '0', get(key, 'version') or '' }
end

-- A sign of life of work that does not checkpoint.
function commands.renew(job, unit, token, lease)
  if not holds(job, unit, token) then return end
  redis.call('ZADD', 'kindred:leases', now + lease, job .. ':' .. unit)
end

-- The whole of what the shard has come to. Returns the job's state, or 'lost'.
function commands.checkpoint(job, unit, token, lease, cursor, hand, embedded, unchanged, rejected,
                             ...)
  if not holds(job, unit, token) then return 'lost' end
  local key, unit_hash = job_key(job), unit_key(job, unit)
  local images = 0
  for name, count in pairs({ embedded = embedded, unchanged = unchanged, rejected = rejected }) do
    local more = tonumber(count) - number(unit_hash, name)
    images = images + more
    if more ~= 0 then redis.call('HINCRBY', key, name, more) end
  end
  if tonumber(cursor) > tonumber(get(unit_hash, 'cursor') or -1) then
    redis.call('HSET', unit_hash, 'crashes', 0, 'deaths', 0)
  end
  redis.call('HSET', unit_hash, 'cursor', cursor, 'hand', hand, 'embedded', embedded,
    'unchanged', unchanged, 'rejected', rejected)
  local rejections = { ... }
  for i = 1, #rejections, 2 do
    redis.call('HSET', key .. ':rejections', rejections[i], rejections[i + 1])
  end
  redis.call('ZADD', 'kindred:leases', now + lease, job .. ':' .. unit)
  redis.call('HDEL', key, 'notice')
  measure(key, images)
  return get(key, 'state')
end

function commands.finish(job, unit, token)
  if not holds(job, unit, token) then return 'lost' end
  complete(job, unit)
  return get(job_key(job), 'state')
end

function commands.planned(job, token, total, shard_size, version)
  if not holds(job, '0', token) then return 'lost' end
  local key = job_key(job)
  redis.call('HSET', key, 'total', total, 'shard_size', shard_size, 'started_at', now,
    'version', version, 'measured_at', now, 'units', 1 + math.ceil(tonumber(total) / tonumber(shard_size)))
  if get(key, 'state') == 'planning' then redis.call('HSET', key, 'state', 'running') end
  complete(job, '0')
  if WORKING[get(key, 'state')] then activate(job) end
  return get(key, 'state')
end

-- Gives a unit back unfinished. `crashed`: work on it failed, as if the worker had died.
local function give_back(job, unit, crashed)
  local unit_hash = unit_key(job, unit)
  local hand = number(unit_hash, 'hand')
  if crashed then
    redis.call('HINCRBY', unit_hash, 'deaths', 1)
    if hand > number(unit_hash, 'careful') then
      redis.call('HSET', unit_hash, 'careful', hand)
    elseif hand > number(unit_hash, 'cursor') then
      redis.call('HINCRBY', unit_hash, 'crashes', 1)
    end
  end
  -- Whoever takes it next and dies before touching a row is not to be blamed on one.
  redis.call('HDEL', unit_hash, 'hand')
  put_back(job, unit)
end

function commands.release(job, unit, token, crashed)
  if not holds(job, unit, token) then return 0 end
  give_back(job, unit, crashed == '1')
  return 1
end

-- A service was away: nobody's fault, try again in `delay` seconds.
function commands.retry_later(job, unit, token, delay, notice)
  if not holds(job, unit, token) then return 0 end
  if FINAL[get(job_key(job), 'state')] then
    put_back(job, unit)
    return 1
  end
  redis.call('HDEL', unit_key(job, unit), 'token', 'owner')
  redis.call('ZREM', 'kindred:leases', job .. ':' .. unit)
  redis.call('ZADD', 'kindred:waiting', now + delay, job .. ':' .. unit)
  redis.call('HSET', job_key(job), 'notice', notice)
  return 1
end

function commands.fail_job(job, error)
  if FINAL[get(job_key(job), 'state')] then return 0 end
  end_job(job, 'failed', error)
  return 1
end

local function forget_units(job)
  for _, set in ipairs({ 'kindred:leases', 'kindred:waiting' }) do
    for _, member in ipairs(redis.call('ZRANGE', set, 0, -1)) do
      if string.match(member, '^(.*):%d+$') == job then
        redis.call('ZREM', set, member)
        redis.call('DEL', 'kindred:unit:' .. member)
      end
    end
  end
end

local function start_over(job)
  local key = job_key(job)
  forget_units(job)
  forget_returned(job)
  redis.call('DEL', key .. ':rejections')
  redis.call('HDEL', key, 'error', 'total', 'version', 'finished_at', 'rate', 'weight', 'notice')
  redis.call('HSET', key, 'state', 'planning', 'units', 1, 'next', 0, 'done', 0,
    'embedded', 0, 'unchanged', 0, 'rejected', 0)
  activate(job)
end

-- The source is not the one that was counted. Returns how often this has happened to the job.
function commands.replan(job, unit, token)
  if not holds(job, unit, token) then return 0 end
  if not WORKING[get(job_key(job), 'state')] then
    put_back(job, unit)
    return 0
  end
  start_over(job)
  return redis.call('HINCRBY', job_key(job), 'replans', 1)
end

-- Returns the new state, or nothing when the job is unknown, or '!STATE' when it cannot be done.
function commands.transition(job, action)
  local key = job_key(job)
  local state = get(key, 'state')
  if not state then return nil end
  if action == 'cancel' and not FINAL[state] then
    end_job(job, 'cancelled')
  elseif action == 'pause' and WORKING[state] then
    redis.call('HSET', key, 'state', 'paused')
    redis.call('LREM', 'kindred:active', 0, job)
  elseif action == 'resume' and state == 'paused' then
    redis.call('HSET', key, 'state', get(key, 'total') and 'running' or 'planning',
      'measured_at', now)
    activate(job)
  elseif action == 'retry' and FINAL[state] and state ~= 'succeeded' then
    redis.call('HDEL', key, 'replans')
    start_over(job)
  else
    return '!' .. state
  end
  return get(key, 'state')
end

-- Takes back every lease whose time is up or whose worker is gone, and what has waited long enough.
-- `alone`: the calling worker owns the store, so whatever another worker holds is lost.
-- Where nobody has called for long, Redis was away or frozen, and no worker could say that it lives:
-- all are given the time to do so before they are judged.
function commands.reclaim(alive, alone)
  local reclaimed = 0
  local last = tonumber(redis.call('GET', 'kindred:reconciled') or now)
  redis.call('SET', 'kindred:reconciled', now)
  if now - last > math.max(alive, SILENCE) then redis.call('SET', 'kindred:amnesty', now + alive) end
  local amnesty = now < tonumber(redis.call('GET', 'kindred:amnesty') or 0)
  for _, member in ipairs(redis.call('ZRANGEBYSCORE', 'kindred:waiting', '-inf', now)) do
    redis.call('ZREM', 'kindred:waiting', member)
    local job, unit = string.match(member, '^(.*):(%d+)$')
    put_back(job, unit)
    reclaimed = reclaimed + 1
  end
  local leases = redis.call('ZRANGE', 'kindred:leases', 0, -1, 'WITHSCORES')
  for i = 1, #leases, 2 do
    local job, unit = string.match(leases[i], '^(.*):(%d+)$')
    local owner = get(unit_key(job, unit), 'owner')
    local beat = owner and tonumber(redis.call('ZSCORE', 'kindred:workers', owner) or 0)
    local lost = owner and alone ~= '' and owner ~= alone
    local late = tonumber(leases[i + 1]) < now or (owner and beat < now - alive)
    if lost or (late and not (owner and amnesty)) then
      give_back(job, unit, owner)
      reclaimed = reclaimed + 1
    end
  end
  return reclaimed
end

function commands.heartbeat(worker, lanes, info, alive)
  redis.call('ZADD', 'kindred:workers', now, worker)
  redis.call('HSET', 'kindred:workers:lanes', worker, lanes)
  redis.call('HSET', 'kindred:workers:info', worker, info)
  for _, gone in ipairs(redis.call('ZRANGEBYSCORE', 'kindred:workers', '-inf', now - 20 * alive)) do
    commands.leave(gone)
  end
end

function commands.leave(worker)
  redis.call('ZREM', 'kindred:workers', worker)
  redis.call('HDEL', 'kindred:workers:lanes', worker)
  redis.call('HDEL', 'kindred:workers:info', worker)
end

function commands.live_workers(alive)
  local infos = {}
  for _, worker in ipairs(redis.call('ZRANGEBYSCORE', 'kindred:workers', now - alive, '+inf')) do
    infos[#infos + 1] = get('kindred:workers:info', worker)
  end
  return infos
end

function commands.create_ask(ask, kind, keep, look_again)
  local key = 'kindred:ask:' .. ask
  redis.call('HSET', key, 'kind', kind, 'state', 'queued', 'created_at', now, 'attempts', 0)
  redis.call('EXPIRE', key, keep)
  redis.call('ZADD', 'kindred:asks', now + look_again, ask)
  redis.call('ZADD', 'kindred:asks:expiry', now + keep, ask)
end

-- Returns the kind, or nothing when the ask is answered, gone, or in another living worker's hands.
function commands.take_ask(ask, owner, lease)
  local key = 'kindred:ask:' .. ask
  local state = get(key, 'state')
  if state ~= 'queued' then return nil end
  redis.call('HSET', key, 'state', 'running', 'owner', owner)
  redis.call('HINCRBY', key, 'attempts', 1)
  redis.call('ZADD', 'kindred:asks', now + lease, ask)
  return get(key, 'kind')
end

-- A sign of life of work that takes long.
function commands.renew_ask(ask, owner, lease)
  local key = 'kindred:ask:' .. ask
  if get(key, 'state') ~= 'running' or get(key, 'owner') ~= owner then return end
  redis.call('ZADD', 'kindred:asks', now + lease, ask)
end

function commands.settle_ask(ask, state, error)
  local key = 'kindred:ask:' .. ask
  local before = get(key, 'state')
  if before ~= 'queued' and before ~= 'running' then return 0 end
  redis.call('HSET', key, 'state', state, 'finished_at', now)
  if error ~= '' then redis.call('HSET', key, 'error', error) end
  redis.call('ZREM', 'kindred:asks', ask)
  redis.call('PUBLISH', key, state)
  return 1
end

-- Puts a taken ask back, because a service was away; the reconciler sends it again.
function commands.requeue_ask(ask, delay)
  local key = 'kindred:ask:' .. ask
  if get(key, 'state') ~= 'running' then return 0 end
  redis.call('HSET', key, 'state', 'queued')
  redis.call('HINCRBY', key, 'attempts', -1)
  redis.call('ZADD', 'kindred:asks', now + delay, ask)
  return 1
end

-- Asks to send again (id, kind, …). What is too old, or has ended three workers, fails.
function commands.reclaim_asks(alive, alone, ttl, look_again, too_old, poison)
  local again = {}
  for _, ask in ipairs(redis.call('ZRANGE', 'kindred:asks', 0, -1)) do
    local key = 'kindred:ask:' .. ask
    local state, owner = get(key, 'state'), get(key, 'owner')
    local due = tonumber(redis.call('ZSCORE', 'kindred:asks', ask)) < now
    local beat = owner and tonumber(redis.call('ZSCORE', 'kindred:workers', owner) or 0)
    local gone = state == 'running'
      and (beat < now - alive or (alone ~= '' and owner ~= alone) or due)
    if not state then
      redis.call('ZREM', 'kindred:asks', ask)
    elseif (state == 'queued' or gone) and number(key, 'created_at') + ttl < now then
      commands.settle_ask(ask, 'failed', too_old)
    elseif gone and number(key, 'attempts') >= 3 then
      commands.settle_ask(ask, 'failed', poison)
    elseif gone or due then
      redis.call('HSET', key, 'state', 'queued')
      redis.call('ZADD', 'kindred:asks', now + look_again, ask)
      again[#again + 1] = ask
      again[#again + 1] = get(key, 'kind')
    end
  end
  return again
end

function commands.expired_asks()
  return redis.call('ZRANGEBYSCORE', 'kindred:asks:expiry', '-inf', now, 'LIMIT', 0, 200)
end

function commands.forget_ask(ask) redis.call('ZREM', 'kindred:asks:expiry', ask) end

-- Deletions ------------------------------------------------------------------------------------

function commands.add_tombstones(...) redis.call('SADD', 'kindred:tombstones', ...) end
function commands.remove_tombstones(...) redis.call('SREM', 'kindred:tombstones', ...) end

function commands.contains_tombstones(...)
  local found = {}
  for _, mark in ipairs({ ... }) do
    if redis.call('SISMEMBER', 'kindred:tombstones', mark) == 1 then found[#found + 1] = mark end
  end
  return found
end

-- A job that has ended can have a batch on its way, so leases count as well.
function commands.watch(deletion)
  local jobs = {}
  for _, job in ipairs(redis.call('ZRANGE', 'kindred:jobs', 0, -1)) do
    if not FINAL[get(job_key(job), 'state')] then jobs[job] = true end
  end
  for _, lease in ipairs(redis.call('ZRANGE', 'kindred:leases', 0, -1)) do
    jobs[string.match(lease, '^(.*):')] = true
  end
  for job in pairs(jobs) do redis.call('SADD', job_key(job) .. ':watching', deletion) end
end

function commands.watching(job) return redis.call('SMEMBERS', job_key(job) .. ':watching') end

return commands[ARGV[1]](unpack(ARGV, 2))
