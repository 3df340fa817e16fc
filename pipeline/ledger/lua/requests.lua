-- Requests: what a worker answers within seconds. -------------------------------------------------

-- So many workers may end, one after the other, while they work on a request.
local ATTEMPTS = 3

local open_requests = ns .. ':requests'
local request_expiry = open_requests .. ':expiry'

local function current_epoch() return call('GET', ns .. ':epoch') or '0' end

local function request_key(request) return ns .. ':request:' .. request end

local function requests_by(caller) return open_requests .. ':by:' .. caller end

-- How many of its requests are not answered. Forgets those that are, or that are gone.
local function open_requests_of(caller)
  local open = 0
  for _, request in ipairs(call('SMEMBERS', requests_by(caller))) do
    local state = get(request_key(request), 'state')
    if not state or FINAL_STATES[state] then
      call('SREM', requests_by(caller), request)
    else
      open = open + 1
    end
  end
  return open
end

-- With limits, it creates nothing if as many messages wait on the broker's queue, or requests of
-- the caller, and replies which: `queue` or `caller`.
function commands.create_request(request, operation, keep, look_again, caller, queue, backlog,
    share)
  if queue and call('LLEN', queue) >= tonumber(backlog) then return 'queue' end
  if queue and open_requests_of(caller) >= tonumber(share) then return 'caller' end
  local key = request_key(request)
  if (caller or '') ~= '' then
    call('HSET', key, 'caller', caller)
    call('SADD', requests_by(caller), request)
    call('EXPIRE', requests_by(caller), keep)
  end
  call('HSET', key, 'operation', operation, 'state', 'queued', 'created_at', now, 'since', now,
    'attempts', 0)
  call('ZADD', open_requests, now + look_again, request)
  call('ZADD', request_expiry, now + keep, request)
end

-- Replies how many messages wait on the broker's queue, and how many requests of the caller.
function commands.waiting_requests(queue, caller)
  return { call('LLEN', queue), open_requests_of(caller) }
end

-- Replies the operation, and the epoch in which its answer begins; nothing if the request is
-- answered, gone, or with another live worker. One that the worker has claimed already is its own:
-- the reply was lost on the way.
function commands.claim_request(request, owner, lease)
  local key = request_key(request)
  local state = get(key, 'state')
  local own = state == 'running' and get(key, 'owner') == owner
  if not own and state ~= 'queued' then return nil end
  if not own then
    call('HSET', key, 'state', 'running', 'owner', owner)
    call('HINCRBY', key, 'attempts', 1)
    call('ZADD', open_requests, now + lease, request)
  end
  return named({ operation = get(key, 'operation'), epoch = current_epoch() })
end

function commands.finish_request(request, state, error)
  local key = request_key(request)
  local before = get(key, 'state')
  if not before or FINAL_STATES[before] then return end
  call('HSET', key, 'state', state, 'finished_at', now)
  if error ~= '' then call('HSET', key, 'error', error) end
  -- Not before: if Redis' clock jumps ahead, Redis would delete what nobody has answered yet.
  local left = tonumber(call('ZSCORE', request_expiry, request) or now) - now
  call('EXPIRE', key, math.max(1, math.ceil(left)))
  call('ZREM', open_requests, request)
  -- With what it was and how it ended, so that who hears it need not ask.
  local told = request .. ' ' .. state .. ' ' .. get(key, 'operation')
  call('PUBLISH', ns .. ':finished', told)
end

-- Images were deleted since the answer was computed, if the epoch is another. Replies whether the
-- answer stands.
function commands.succeed_request(request, epoch)
  if current_epoch() ~= epoch then return 0 end
  commands.finish_request(request, 'succeeded', '')
  return 1
end

-- Puts a claimed request back because a service is unavailable; the reconciler sends it again.
-- Replies 0, and leaves it with its worker, if that has happened more than `tries` times and for
-- `patience` seconds.
function commands.requeue_request(request, delay, tries, patience)
  local key = request_key(request)
  if get(key, 'state') ~= 'running' then return 1 end
  local requeues = call('HINCRBY', key, 'requeues', 1)
  call('HSETNX', key, 'requeued_at', now)
  if requeues > tonumber(tries) and now - number(key, 'requeued_at') >= tonumber(patience) then
    return 0
  end
  call('HSET', key, 'state', 'queued')
  call('HINCRBY', key, 'attempts', -1)
  call('ZADD', open_requests, now + delay, request)
  return 1
end

-- Seconds for which it has been waiting. One of an older Kindred has only its date.
local function waited(key)
  return now - (tonumber(get(key, 'since') or get(key, 'created_at') or now))
end

-- Whether the worker that claimed it has ended, or its lease has.
local function is_abandoned(key, alive, alone, due)
  if get(key, 'state') ~= 'running' then return false end
  local owner = get(key, 'owner')
  return due or (alone ~= '' and owner ~= alone) or last_heartbeat(owner) < now - alive
end

-- Replies requests to send again, with their operations. What is too old, or has ended too many
-- workers, fails.
function commands.reclaim_requests(alive, alone, ttl, look_again, too_old, poison)
  local again = {}
  local requests = call('ZRANGE', open_requests, 0, -1, 'WITHSCORES')
  for i = 1, #requests, 2 do
    local request, due = requests[i], tonumber(requests[i + 1]) < now
    local key = request_key(request)
    local state = get(key, 'state')
    local abandoned = is_abandoned(key, alive, alone, due)
    if not state then
      call('ZREM', open_requests, request)
    elseif (state == 'queued' or abandoned) and waited(key) > tonumber(ttl) then
      commands.finish_request(request, 'failed', too_old)
    elseif abandoned and number(key, 'attempts') >= ATTEMPTS then
      commands.finish_request(request, 'failed', poison)
    elseif abandoned or due then
      call('HSET', key, 'state', 'queued')
      call('ZADD', open_requests, now + look_again, request)
      again[#again + 1] = named({ id = request, operation = get(key, 'operation') })
    end
  end
  return again
end

function commands.expired_requests()
  return call('ZRANGEBYSCORE', request_expiry, '-inf', now, 'LIMIT', 0, 200)
end

function commands.forget_request(request)
  call('ZREM', request_expiry, request)
  call('ZREM', open_requests, request)
  call('DEL', request_key(request))
end
