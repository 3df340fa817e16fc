-- Workers: heartbeats, and what the live ones say of themselves. ----------------------------------

-- So many times as long as a worker counts as alive without a heartbeat, it is remembered.
local REMEMBERED = 20

-- Seconds that a worker has from its claim to its first heartbeat: it opens the store meanwhile.
local OPENING = 60

local encoder = ns .. ':encoder'
local opening = ns .. ':workers:opening'

local function set_lanes(worker, ...)
  local lanes = ns .. ':workers:lanes:' .. worker
  call('DEL', lanes)
  if select('#', ...) > 0 then call('HSET', lanes, ...) end
end

-- The last arguments are queues and how many items of each the worker takes at once.
function commands.heartbeat(worker, alive, info, metrics, ...)
  call('ZADD', ns .. ':workers', now, worker)
  call('ZREM', opening, worker)
  call('HSET', ns .. ':workers:info', worker, info)
  if metrics ~= '' then call('HSET', ns .. ':workers:metrics', worker, metrics) end
  set_lanes(worker, ...)
  local forgotten = now - REMEMBERED * alive
  for _, gone in ipairs(call('ZRANGEBYSCORE', ns .. ':workers', '-inf', forgotten)) do
    commands.leave(gone)
  end
end

function commands.leave(worker)
  call('ZREM', ns .. ':workers', worker)
  call('ZREM', opening, worker)
  call('HDEL', ns .. ':workers:info', worker)
  call('HDEL', ns .. ':workers:metrics', worker)
  call('DEL', ns .. ':workers:lanes:' .. worker)
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
