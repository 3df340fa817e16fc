-- Incoming: objects that are received one by one, until a job is made of their batch. ------------

local incoming, incoming_files = ns .. ':incoming', ns .. ':incoming:files'
local closing, incoming_jobs = ns .. ':incoming:closing', ns .. ':incoming:jobs'

-- The batch is its receiver's for `seconds`; each object that comes for it begins them anew.
function commands.open_batch(batch, seconds)
  call('ZADD', incoming, 'NX', now + seconds, batch)
  call('HSETNX', incoming_files, batch, 0)
end

-- One more object lies in the blobs. Replies how many it has; 0 if others make a job of it by now.
function commands.add_received(batch, seconds)
  if call('HEXISTS', closing, batch) == 1 or not call('ZSCORE', incoming, batch) then return 0 end
  call('ZADD', incoming, 'XX', now + seconds, batch)
  return call('HINCRBY', incoming_files, batch, 1)
end

-- Its receiver adds nothing more: whoever looks next makes a job of it.
function commands.end_batch(batch)
  if call('HEXISTS', closing, batch) == 0 then call('ZADD', incoming, 'XX', now, batch) end
end

-- Replies a batch that nobody fills and nobody makes a job of, for `seconds` under this token.
function commands.claim_batch(token, seconds)
  local due = call('ZRANGEBYSCORE', incoming, '-inf', now, 'LIMIT', 0, 1)[1]
  if not due then return false end
  call('ZADD', incoming, now + seconds, due)
  call('HSET', closing, due, token)
  return due
end

-- Whether the batch is still claimed under this token; if so, for `seconds` more.
function commands.hold_batch(batch, token, seconds)
  if get(closing, batch) ~= token then return 0 end
  call('ZADD', incoming, 'XX', now + seconds, batch)
  return 1
end

-- A job was made of it, with so many rows.
function commands.forget_batch(batch, rows)
  call('ZREM', incoming, batch)
  call('HDEL', incoming_files, batch)
  call('HDEL', closing, batch)
  if get(job_key(batch), 'state') then call('HSET', incoming_jobs, batch, rows) end
end

-- How many objects were received whose jobs have not ended.
function commands.count_incoming()
  local count = 0
  for _, files in ipairs(call('HVALS', incoming_files)) do count = count + files end
  for job, rows in pairs(fields_of(incoming_jobs)) do
    local state = get(job_key(job), 'state')
    if state and not FINAL_STATES[state] then
      count = count + rows
    else
      call('HDEL', incoming_jobs, job)
    end
  end
  return count
end
