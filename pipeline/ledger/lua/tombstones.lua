-- Tombstones, and the deletions that running jobs must know of. -----------------------------------

local tombstones = ns .. ':tombstones'
local tombstones_by = ns .. ':tombstones:by'
local fresh_tombstones = tombstones .. ':fresh'
local pending_deletions = ns .. ':deletions:pending'

local function deletions_key(job) return job_key(job) .. ':deletions' end

-- Remembers for each key the deletion that added it last.
function commands.add_tombstones(deletion, ...)
  call('SADD', tombstones, ...)
  call('SADD', fresh_tombstones, ...)
  for _, key in ipairs({ ... }) do call('HSET', tombstones_by, key, deletion) end
end

function commands.remove_tombstones(...)
  call('SREM', tombstones, ...)
  call('HDEL', tombstones_by, ...)
end

-- Replies, for each key, its deletion; empty if that is not known, as of one that was added before
-- this was remembered.
function commands.deletions_of_tombstones(...)
  local found = call('HMGET', tombstones_by, ...)
  for i = 1, #found do found[i] = found[i] or '' end
  return found
end

function commands.contains_tombstones(...)
  local found = {}
  for _, key in ipairs({ ... }) do
    if call('SISMEMBER', tombstones, key) == 1 then found[#found + 1] = key end
  end
  return found
end

-- The jobs that can still bring rows into the store. One that has ended can have a batch on its
-- way, so leases count as well.
local function running_jobs()
  local jobs = {}
  for _, job in ipairs(call('SMEMBERS', ns .. ':jobs:open')) do jobs[job] = true end
  for _, queue in ipairs(queues()) do
    for _, member in ipairs(call('ZRANGE', leases_key(queue), 0, -1)) do
      local job = split(member)
      jobs[job] = true
    end
  end
  return jobs
end

function commands.notify_running_jobs(deletion)
  call('SADD', pending_deletions, deletion)
  for job in pairs(running_jobs()) do
    if job ~= deletion then call('SADD', deletions_key(job), deletion) end
  end
end

-- A job that is retried can have been told of deletions that are forgotten by now.
function commands.pending_deletions(job)
  return call('SINTER', deletions_key(job), pending_deletions)
end

-- A deletion that is still running is not released, whoever refers to it. Every worker asks every
-- other second, so nothing is looked at while none is pending.
function commands.released_deletions()
  local needed = {}
  if call('EXISTS', pending_deletions) == 0 then return {} end
  for job in pairs(running_jobs()) do
    needed[job] = true
    local told = call('SINTER', deletions_key(job), pending_deletions)
    for _, deletion in ipairs(told) do needed[deletion] = true end
  end
  local released = {}
  for _, deletion in ipairs(call('SMEMBERS', pending_deletions)) do
    if not needed[deletion] then released[#released + 1] = deletion end
  end
  return released
end

-- A deletion is pending from its first moment: what it is to take lies in clear for as long.
function commands.register_deletion(deletion) call('SADD', pending_deletions, deletion) end

function commands.forget_deletion(deletion)
  call('SREM', pending_deletions, deletion)
  for job in pairs(running_jobs()) do call('SREM', deletions_key(job), deletion) end
end

function commands.advance_epoch() return call('INCR', ns .. ':epoch') end
