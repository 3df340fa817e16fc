-- Jobs: how they begin, end, and begin anew. ------------------------------------------------------

-- The one outcome that the ledger knows: with rows that were rejected, a job ends in another state.
local REJECTED = 'rejected'

-- The keys of a job, behind `job:ID`. Its items and claims come beside them.
local JOB_PARTS = { '', ':counts', ':returned', ':rejected', ':rejections', ':deletions' }
local jobs_open, jobs_ended = ns .. ':jobs:open', ns .. ':jobs:ended'

-- Two indexes of the jobs that have ended: by when, and for each final state by when they began.
local jobs_finished = ns .. ':jobs:finished'
local function jobs_in(state) return ns .. ':jobs:' .. state end

local function unindex_job(job)
  call('ZREM', jobs_finished, job)
  for state in pairs(FINAL_STATES) do call('ZREM', jobs_in(state), job) end
end

local function index_job(job, state)
  unindex_job(job)
  call('ZADD', jobs_finished, get(job_key(job), 'finished_at'), job)
  call('ZADD', jobs_in(state), get(job_key(job), 'created_at'), job)
end

local function activate(job)
  local active = active_key(queue_of(job))
  if not call('LPOS', active, job) then call('RPUSH', active, job) end
end

local function deactivate(job) call('LREM', active_key(queue_of(job)), 0, job) end

local function forget_item(job, item)
  call('DEL', item_key(job, item), item_key(job, item) .. ':counts')
end

-- Forgets their progress as well: if the job begins anew, so do they.
local function forget_returned(job)
  local list = job_key(job) .. ':returned'
  for _, item in ipairs(call('LRANGE', list, 0, -1)) do forget_item(job, item) end
  call('DEL', list)
end

local function forget_quarantined(job)
  local list = quarantine_key(queue_of(job))
  for _, member in ipairs(call('LRANGE', list, 0, -1)) do
    local owner, item = split(member)
    if owner == job then
      call('LREM', list, 0, member)
      forget_item(job, item)
    end
  end
end

-- Every job ends here. Whoever waits for its end is told.
local function end_job(job, state, error)
  local key = job_key(job)
  call('HSET', key, 'state', state, 'finished_at', now)
  call('HDEL', key, 'notice')
  if error then call('HSET', key, 'error', error) end
  deactivate(job)
  forget_returned(job)
  forget_quarantined(job)
  call('UNLINK', claims_key(job))
  call('SREM', jobs_open, job)
  call('SADD', jobs_ended, job)
  index_job(job, state)
  call('PUBLISH', ns .. ':finished', job)
end

local function finish_if_complete(job)
  local key = job_key(job)
  if FINAL_STATES[get(key, 'state')] then return end
  if number(key, 'finished_items') < number(key, 'items') then return end
  local rejected = number(key .. ':counts', REJECTED) > 0
  end_job(job, rejected and 'completed_with_rejections' or 'succeeded')
end

-- Planning, with nothing done.
local function begin_job(job)
  call('HSET', job_key(job), 'state', 'planning', 'items', 1, 'next_item', 0, 'finished_items', 0)
  call('SADD', jobs_open, job)
  call('SREM', jobs_ended, job)
  unindex_job(job)
  activate(job)
end

-- The lanes that a leased item takes are free again.
local function unload(job, item)
  local worker = get(item_key(job, item), 'worker')
  local weight = number(item_key(job, item), 'weight')
  if worker then call('HINCRBY', load_key(queue_of(job)), worker, -weight) end
end

local function forget_items_in(set, job)
  for _, member in ipairs(call('ZRANGE', set, 0, -1)) do
    local owner, item = split(member)
    if owner == job then
      call('ZREM', set, member)
      unload(job, item)
      forget_item(job, item)
    end
  end
end

local function start_over(job)
  local key = job_key(job)
  forget_items_in(leases_key(queue_of(job)), job)
  forget_items_in(ns .. ':waiting', job)
  forget_returned(job)
  forget_quarantined(job)
  -- Redis frees them in the background, since they can be large.
  call('UNLINK', key .. ':rejected', key .. ':rejections', key .. ':counts', claims_key(job))
  call('HDEL', key, 'error', 'total', 'skipped', 'version', 'finished_at', 'rate', 'weight',
    'notice')
  begin_job(job)
end

function commands.create_job(job, operation, queue, request)
  local key = job_key(job)
  if call('EXISTS', key) == 1 then return end
  call('HSET', key, 'operation', operation, 'queue', queue, 'request', request, 'created_at', now)
  call('ZADD', ns .. ':jobs', now, job)
  call('SADD', ns .. ':queues', queue)
  begin_job(job)
end

-- A worker has put away what the job needed; unless the job has begun anew meanwhile.
function commands.tidied(job)
  if FINAL_STATES[get(job_key(job), 'state')] then call('SREM', jobs_ended, job) end
end

function commands.fail_job(job, error)
  local state = get(job_key(job), 'state')
  if state and not FINAL_STATES[state] then end_job(job, 'failed', error) end
end

local transitions = {}

function transitions.cancel(job, state)
  if FINAL_STATES[state] then return false end
  end_job(job, 'cancelled')
  return true
end

function transitions.pause(job, state)
  if not WORKING[state] then return false end
  call('HSET', job_key(job), 'state', 'paused')
  deactivate(job)
  return true
end

function transitions.resume(job, state)
  if state ~= 'paused' then return false end
  local key = job_key(job)
  local resumed = get(key, 'total') and 'running' or 'planning'
  call('HSET', key, 'state', resumed, 'measured_at', now)
  activate(job)
  return true
end

function transitions.retry(job, state)
  if not FINAL_STATES[state] or state == 'succeeded' then return false end
  call('HDEL', job_key(job), 'replans')
  start_over(job)
  return true
end

-- Replies the new state; or an error, `unknown` or `not_allowed` in the state that it replies.
function commands.transition(job, action)
  local state = get(job_key(job), 'state')
  if not state then return named({ error = 'unknown' }) end
  if not transitions[action](job, state) then
    return named({ error = 'not_allowed', state = state })
  end
  return named({ state = get(job_key(job), 'state') })
end
