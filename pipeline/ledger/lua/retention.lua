-- Retention: jobs that ended long ago are forgotten, by one worker at a time. ---------------------

-- Whether this turn of a worker may sweep. It has the claim for `seconds`, and extends it by
-- claiming again; a turn that is killed loses it then.
function commands.claim_sweep(turn, seconds)
  local holder = call('GET', ns .. ':workers:sweep')
  if holder and holder ~= turn then return 0 end
  call('SET', ns .. ':workers:sweep', turn, 'EX', seconds)
  return 1
end

local function forget_job(job)
  local key, forgotten = job_key(job), ns .. ':forgotten:' .. job
  call('SADD', ns .. ':jobs:forgotten', job)
  call('RENAME', key, forgotten)
  if call('EXISTS', key .. ':counts') == 1 then
    call('RENAME', key .. ':counts', forgotten .. ':counts')
  end
  for _, part in ipairs(JOB_PARTS) do call('UNLINK', key .. part) end
  call('ZREM', ns .. ':jobs', job)
  unindex_job(job)
end

-- Forgets up to `limit` jobs that ended more than `age` seconds ago, whose data is put away. From
-- here on they are unknown, so nobody can retry one while its blobs are deleted. Replies how many.
function commands.forget_jobs(age, limit)
  local due = call('ZRANGEBYSCORE', jobs_finished, '-inf', now - age, 'LIMIT', 0, limit)
  local count = 0
  for _, job in ipairs(due) do
    if not FINAL_STATES[get(job_key(job), 'state')] then
      unindex_job(job) -- an api of 0.1 or before has retried it
    elseif call('SISMEMBER', jobs_ended, job) == 0 then
      forget_job(job)
      count = count + 1
    end
  end
  return count
end

-- The blobs of a forgotten job are deleted.
function commands.forgot_job(job)
  call('DEL', ns .. ':forgotten:' .. job, ns .. ':forgotten:' .. job .. ':counts')
  call('SREM', ns .. ':jobs:forgotten', job)
end

-- Whether every job is known as open or as ended, and none as both. One that a worker of 0.1 or
-- before ended is not, and one that it retried is both.
function commands.jobs_are_indexed()
  for _, job in ipairs(call('SMEMBERS', jobs_open)) do
    if call('ZSCORE', jobs_finished, job) then return 0 end
  end
  local indexed = call('SCARD', jobs_open) + call('ZCARD', jobs_finished)
  return indexed == call('ZCARD', ns .. ':jobs') and 1 or 0
end

-- Repairs what is known of these jobs. Safe to repeat.
function commands.index_jobs(...)
  for _, job in ipairs({ ... }) do
    local state = get(job_key(job), 'state')
    if state and FINAL_STATES[state] then
      call('SREM', jobs_open, job)
      index_job(job, state)
    else
      unindex_job(job)
      call(state and 'SADD' or 'SREM', jobs_open, job)
      if not state then call('ZREM', ns .. ':jobs', job) end
    end
  end
end
