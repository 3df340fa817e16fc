-- The clock: deadlines and heartbeats survive a clock that jumps. ---------------------------------
--
-- Redis' clock can be set back or forward, a failover brings the clock of another host, and while
-- Redis is away or frozen nobody can send a heartbeat. After each of these, every moment that is
-- stored for a comparison with `now` is off by as much. So whatever part of the time between two
-- calls cannot have passed, or has passed without anybody, is added to all of them.

local clock = ns .. ':workers:clock'
local reconciled = ns .. ':reconciled'

-- Seconds between two calls that count at most, until a worker has said how often it calls.
local MOST = 2
local LEAST_MOST = 0.5

-- Seconds that the clock may go back without being noticed, and after which a call is written down.
local SLACK = 0.25

local function move_set(key, seconds)
  for _, member in ipairs(call('ZRANGE', key, 0, -1)) do call('ZINCRBY', key, seconds, member) end
end

local function move_field(key, field, seconds)
  if call('HEXISTS', key, field) == 1 then call('HINCRBYFLOAT', key, field, seconds) end
end

local function move_all(seconds)
  for _, queue in ipairs(queues()) do move_set(leases_key(queue), seconds) end
  for _, set in ipairs({ 'workers', 'workers:opening', 'waiting', 'elsewhere', 'requests',
    'incoming' }) do
    move_set(ns .. ':' .. set, seconds)
  end
  for _, request in ipairs(call('ZRANGE', ns .. ':requests', 0, -1)) do
    move_field(ns .. ':request:' .. request, 'since', seconds)
    move_field(ns .. ':request:' .. request, 'requeued_at', seconds)
    call('ZADD', ns .. ':requests:expiry', 'XX', 'INCR', seconds, request)
  end
  if call('EXISTS', reconciled) == 1 then call('INCRBYFLOAT', reconciled, seconds) end
end

-- Workers of an older version leave a trace of their calls as well: that of `reclaim`.
local function last_call(at)
  local last = tonumber(call('GET', reconciled) or at or now)
  return math.max(last, tonumber(at or last))
end

-- Every call begins with this.
local function keep_time()
  local known = call('HMGET', clock, 'at', 'most')
  local step = now - last_call(known[1])
  local passed = math.max(0, math.min(step, tonumber(known[2] or MOST) or MOST))
  if step < -SLACK or step > passed then move_all(step - passed) end
  if not known[1] or math.abs(step) > SLACK then call('HSET', clock, 'at', now) end
end

-- Half of the time after which a worker without a heartbeat counts as dead: a jump can make a live
-- one look older, but not dead.
local function call_at_least_every(alive)
  call('HSET', clock, 'most', math.max(LEAST_MOST, alive / 2))
end
