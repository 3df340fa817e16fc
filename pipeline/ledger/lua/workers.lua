-- Workers: heartbeats, and what the live ones say of themselves. ----------------------------------

-- So many times as long as a worker counts as alive without a heartbeat, it is remembered.
local REMEMBERED = 20

-- Seconds that a worker has from its claim to its first heartbeat: it opens the store meanwhile.
local OPENING = 60

-- Seconds for which a worker that has gone is replied as such.
local REPLIED = 7200

local encoder = ns .. ':encoder'
local opening = ns .. ':workers:opening'

local known = ns .. ':workers:known'

local function set_lanes(worker, lanes)
  for _, queue in ipairs(queues()) do call('HDEL', lanes_key(queue), worker) end
  for queue, size in pairs(lanes) do
    call('SADD', ns .. ':queues', queue)
    call('HSET', lanes_key(queue), worker, size)
  end
end

-- The worker has begun these items and is still at them: jobs, items and tokens.
local function renew(leases, seconds)
  for i = 1, #leases, 3 do
    local job, item, token = leases[i], leases[i + 1], leases[i + 2]
    if holds(job, item, token) then extend(job, item, seconds) end
  end
end

local function forget_late_workers(alive)
  local late = now - REMEMBERED * alive
  for _, gone in ipairs(call('ZRANGEBYSCORE', ns .. ':workers', '-inf', late)) do
    commands.leave(gone)
  end
end

-- Then come `size` names and values: queues and how many items of each the worker takes at once;
-- then the leases that it holds, for `seconds` more from now on. Replies how many leases in a row
-- it has not begun.
function commands.heartbeat(worker, alive, info, metrics, seconds, size, ...)
  local rest, lanes, leases = { ... }, {}, {}
  for i = 1, 2 * size, 2 do lanes[rest[i]] = rest[i + 1] end
  for i = 2 * size + 1, #rest do leases[#leases + 1] = rest[i] end
  call_at_least_every(alive)
  call('ZADD', ns .. ':workers', now, worker)
  call('ZADD', known, now, worker)
  call('ZREM', opening, worker)
  call('HSET', ns .. ':workers:info', worker, info)
  if metrics ~= '' then call('HSET', ns .. ':workers:metrics', worker, metrics) end
  set_lanes(worker, lanes)
  renew(leases, seconds)
  forget_late_workers(alive)
  return number(ns .. ':workers:missed', worker)
end

function commands.leave(worker)
  call('ZREM', ns .. ':workers', worker)
  call('ZREM', opening, worker)
  call('HDEL', ns .. ':workers:info', worker)
  call('HDEL', ns .. ':workers:metrics', worker)
  call('HDEL', ns .. ':workers:missed', worker)
  for _, queue in ipairs(queues()) do
    call('HDEL', lanes_key(queue), worker)
    call('HDEL', load_key(queue), worker)
  end
end

-- Workers that have gone: their queues on the broker can still be there. The broker puts messages
-- of a killed worker back for an hour, so they are replied for two.
function commands.departed()
  local gone = {}
  for _, worker in ipairs(call('ZRANGE', known, 0, -1)) do
    if not call('ZSCORE', ns .. ':workers', worker) then gone[#gone + 1] = worker end
  end
  call('ZREMRANGEBYSCORE', known, '-inf', now - REPLIED)
  return gone
end

-- Whether a worker lives or is about to. All of them have the encoder that is recorded.
local function is_in_use(alive)
  call('ZREMRANGEBYSCORE', opening, '-inf', now - OPENING)
  return call('ZCARD', opening) + call('ZCOUNT', ns .. ':workers', now - alive, '+inf') > 0
end

-- Records the encoder of a worker that is about to open the collection. Replies the other encoder's
-- `info` if one has the collection: it keeps it for as long as a worker with it lives.
function commands.claim_encoder(worker, alive, identity, info)
  local holder = get(encoder, 'identity')
  if holder and holder ~= identity and is_in_use(alive) then return get(encoder, 'info') end
  if holder ~= identity then call('HSET', encoder, 'identity', identity, 'info', info) end
  call('ZADD', opening, now, worker)
  return nil
end

-- Replies the live workers that have a text in `what`, which is `info` or `metrics`.
function commands.live_workers(alive, what)
  local found = {}
  for _, worker in ipairs(call('ZRANGEBYSCORE', ns .. ':workers', now - alive, '+inf')) do
    local text = get(ns .. ':workers:' .. what, worker)
    if text then found[#found + 1] = named({ name = worker, text = text }) end
  end
  return found
end
