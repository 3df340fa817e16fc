-- Withheld images ---------------------------------------------------------------------------------
--
-- They are in quarantine until a person has looked for names in their pixels. (The rows that
-- `items.lua` calls quarantined are others.)
--
-- Each has a name, POINT-DIGEST, which is that of its folder in the blobs. It is `unfinished` while
-- that folder is written or deleted, so that a kill at any moment leaves nothing that is not known.

local withheld = ns .. ':withheld'
local unfinished = withheld .. ':unfinished'
local withheld_entries = withheld .. ':entries'
local withheld_points = withheld .. ':points'
local withheld_releases = withheld .. ':releases'
local refused = withheld .. ':refused'

local function parts_of(name) return string.match(name, '^(%x+)-(%x+)$') end

local function names_of(point)
  local names = {}
  for name in string.gmatch(get(withheld_points, point) or '', '%S+') do
    names[#names + 1] = name
  end
  return names
end

local function set_names(point, names)
  if #names == 0 then
    call('HDEL', withheld_points, point)
  else
    call('HSET', withheld_points, point, table.concat(names, ' '))
  end
end

local function names_without(names, name)
  local others = {}
  for _, each in ipairs(names) do
    if each ~= name then others[#others + 1] = each end
  end
  return others
end

-- The job that is to release it: one that has not ended, or is not put away yet.
local function releasing(name)
  local job = get(withheld_releases, name)
  local state = job and get(job_key(job), 'state')
  if not state then return nil end
  if FINAL_STATES[state] and call('SISMEMBER', jobs_ended, job) == 0 then return nil end
  return job
end

-- Takes it off the list; its folder is to be deleted now.
local function unlist(name)
  call('ZREM', withheld, name)
  if get(withheld_entries, name) then call('ZADD', unfinished, now, name) end
end

-- Takes names and entries. From here on, deletions find them. Replies whether the lease holds.
function commands.begin_withholding(job, item, token, ...)
  if not holds(job, item, token) then return 0 end
  local pairs_ = { ... }
  for i = 1, #pairs_, 2 do
    local name, entry = pairs_[i], pairs_[i + 1]
    local point = parts_of(name)
    local names = names_without(names_of(point), name)
    names[#names + 1] = name
    set_names(point, names)
    call('HSET', withheld_entries, name, entry)
    if not call('ZSCORE', withheld, name) then call('ZADD', unfinished, now, name) end
  end
  return 1
end

-- Their folders are whole. Replies whether the lease holds, and then which older files of the same
-- images they replace. The list has an order that never changes: microseconds, each once.
function commands.withhold(job, item, token, ...)
  if not holds(job, item, token) then return named({ error = 'lost' }) end
  local replaced = {}
  local last = tonumber(call('ZRANGE', withheld, -1, -1, 'WITHSCORES')[2] or 0)
  local at = math.max(math.floor(now * 1e6), last + 1)
  for _, name in ipairs({ ... }) do
    if call('ZREM', unfinished, name) == 1 then
      call('ZADD', withheld, at, name)
      at = at + 1
    end
    for _, other in ipairs(names_without(names_of(parts_of(name)), name)) do
      unlist(other)
      replaced[#replaced + 1] = other
    end
  end
  return named({ replaced = replaced })
end

function commands.unlist_withheld(...)
  for _, name in ipairs({ ... }) do unlist(name) end
end

-- Their folders are deleted; one that is begun again meanwhile stays.
function commands.forget_withheld(...)
  for _, name in ipairs({ ... }) do
    if not call('ZSCORE', withheld, name) then
      local point = parts_of(name)
      set_names(point, names_without(names_of(point), name))
      call('ZREM', unfinished, name)
      call('HDEL', withheld_entries, name)
      call('HDEL', withheld_releases, name)
    end
  end
end

local function described(name, at)
  return named({ name = name, at = at, entry = get(withheld_entries, name),
    releasing = releasing(name) })
end

function commands.list_withheld(after, limit)
  local found, page = call('ZRANGEBYSCORE', withheld, '(' .. after, '+inf', 'WITHSCORES',
    'LIMIT', 0, limit), {}
  for i = 1, #found, 2 do page[#page + 1] = described(found[i], found[i + 1]) end
  return page
end

-- Of each of these points the one that waits, or nothing.
function commands.find_withheld(...)
  local found = {}
  for _, point in ipairs({ ... }) do
    for _, name in ipairs(names_of(point)) do
      local at = call('ZSCORE', withheld, name)
      if at then found[#found + 1] = described(name, at) end
    end
  end
  return found
end

-- The first of them that does not wait, or that a job releases already.
local function not_waiting(names)
  for _, name in ipairs(names) do
    if not call('ZSCORE', withheld, name) then return named({ error = 'unknown', name = name }) end
    local job = releasing(name)
    if job then return named({ error = 'releasing', name = name, job = job }) end
  end
  return nil
end

-- Creates the job that is to release them all, or none.
function commands.release_withheld(job, operation, queue, request, ...)
  local wrong = not_waiting({ ... })
  if wrong then return wrong end
  for _, name in ipairs({ ... }) do call('HSET', withheld_releases, name, job) end
  commands.create_job(job, operation, queue, request)
  return named({})
end

-- Their pictures are never taken again, under whatever id.
function commands.refuse_withheld(...)
  local wrong = not_waiting({ ... })
  if wrong then return wrong end
  for _, name in ipairs({ ... }) do
    local point, digest = parts_of(name)
    call('HSET', refused, digest, point)
    unlist(name)
  end
  return named({})
end

function commands.allow_refused(...)
  return call('HDEL', refused, ...)
end

-- Replies some that have been unfinished for longer than `age` seconds: what a kill has left.
function commands.unfinished_withheld(age, limit)
  return call('ZRANGEBYSCORE', unfinished, '-inf', now - age, 'LIMIT', 0, limit)
end
