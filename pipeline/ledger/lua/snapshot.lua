-- Snapshots: what a backup reads in one step. -----------------------------------------------------
--
-- A job that has ended stays as it is, so such jobs are read a page at a time. What is open belongs
-- together, so all of it is read in the last call, with every job that has ended since the first.

-- `absent`: also if the key is not there, for an earlier line can have it.
local function add_dump(found, key, absent)
  local value = call('DUMP', key)
  if not value and not absent then return end
  found[#found + 1] = key
  found[#found + 1] = value and math.max(0, call('PTTL', key)) or 0
  found[#found + 1] = value
end

local function append(list, others)
  for _, each in ipairs(others) do list[#list + 1] = each end
end

local function add_item(found, job, item)
  add_dump(found, item_key(job, item), false)
  add_dump(found, item_key(job, item) .. ':counts', false)
end

local function add_job(reply, job, absent)
  local key = job_key(job)
  for _, part in ipairs(JOB_PARTS) do
    if part ~= ':rejections' then
      add_dump(reply.keys, key .. part, absent)
    elseif call('EXISTS', key .. part) == 1 then
      reply.large[#reply.large + 1] = key .. part
    end
  end
  local created = call('ZSCORE', ns .. ':jobs', job)
  if created then
    reply.jobs[#reply.jobs + 1] = job
    reply.jobs[#reply.jobs + 1] = created
  end
end

-- Replies the time, to be handed to both commands below.
function commands.begin_snapshot() return string.format('%.17g', now) end

-- Jobs that ended from `after` on and before `began`. Replies `jobs` with when they were created,
-- the `last` of them and how `many` ended in that moment, `keys` with their lives in milliseconds
-- and values, and the keys that are too `large` for this.
function commands.dump_ended(after, began, skip, limit)
  local reply = { jobs = {}, keys = {}, large = {} }
  local found = call('ZRANGEBYSCORE', jobs_finished, after, '(' .. began, 'WITHSCORES',
    'LIMIT', skip, limit)
  local many = 0
  for i = 1, #found, 2 do
    add_job(reply, found[i], false)
    if found[i + 1] == found[#found] then many = many + 1 end
  end
  reply.size, reply.last, reply.many = #found / 2, found[#found], many
  return named(reply)
end

-- All that is open at this moment, with the keys that are named, each as above; of a job's keys
-- that are not there the value is nil.
function commands.dump_open(began, ...)
  local reply = { jobs = {}, keys = {}, large = {} }
  local members = call('ZRANGE', ns .. ':waiting', 0, -1)
  for _, key in ipairs({ jobs_open, jobs_ended, ns .. ':jobs:forgotten', ns .. ':queues',
    ns .. ':waiting', ... }) do add_dump(reply.keys, key, false) end
  for _, queue in ipairs(queues()) do
    add_dump(reply.keys, leases_key(queue), false)
    add_dump(reply.keys, active_key(queue), false)
    add_dump(reply.keys, quarantine_key(queue), false)
    append(members, call('ZRANGE', leases_key(queue), 0, -1))
    append(members, call('LRANGE', quarantine_key(queue), 0, -1))
  end
  for _, member in ipairs(members) do add_item(reply.keys, split(member)) end
  for _, job in ipairs(call('SMEMBERS', jobs_open)) do
    add_job(reply, job, true)
    for _, item in ipairs(call('LRANGE', job_key(job) .. ':returned', 0, -1)) do
      add_item(reply.keys, job, item)
    end
  end
  for _, job in ipairs(call('ZRANGEBYSCORE', jobs_finished, began, '+inf')) do
    add_job(reply, job, true)
  end
  return named(reply)
end
