-- The ledger: every change of state, each one atomic. Called as EVALSHA … 1 NAMESPACE COMMAND ARG…
--
-- Python joins these files in a fixed order, behind a header of constants. Every key begins with a
-- namespace, KEYS[1], which belongs to one collection:
--
-- jobs                    zset   job -> created at
-- jobs:open               set    jobs that have not reached a final state
-- jobs:ended              set    jobs that have, and whose data no worker has put away yet
-- jobs:finished           zset   every job that has -> finished at
-- jobs:STATE              zset   for each final state: job -> created at
-- jobs:forgotten          set    jobs that are forgotten, and whose blobs are not deleted yet
-- forgotten:ID, :counts   hash   what `job:ID` was
-- job:ID                  hash   operation queue request state version total shard_size items
--                                next_item finished_items created_at started_at finished_at error
--                                notice replans rate weight measured_at skipped (JSON: kind -> how
--                                many files are no rows)
-- job:ID:counts           hash   outcome -> how many
-- job:ID:returned         list   items to dispatch again
-- job:ID:rejected         zset   a blob with rejected rows -> the row up to which they count
-- job:ID:rejections       hash   row -> JSON (by workers of 0.1 and before)
-- job:ID:deletions        set    deletions that were requested while the job ran
-- claims:SCOPE            hash   image (its point's id) -> the row that came first
-- item:ID:N               hash   token worker weight owner cursor in_flight quarantined crashes
--                                deaths
-- item:ID:N:counts        hash   outcome -> how many
-- queues                  set    names of the queues that jobs have named
-- active:QUEUE            list   jobs with items to dispatch, the next one first
-- quarantine:QUEUE        list   ID:N of items that a worker is to try alone
-- reserved:QUEUE          string the worker that gets nothing new until it can take one of those
-- leases:QUEUE            zset   ID:N -> deadline
-- waiting                 zset   ID:N -> not before (released, because a service was unavailable)
-- elsewhere               zset   ID WORKER -> until when its host is taken to lack the job's source
-- workers                 zset   worker -> last heartbeat
-- workers:info, :metrics  hash   worker -> what it says of itself
-- workers:lanes:QUEUE     hash   worker -> how many items it takes at once
-- workers:load:QUEUE      hash   worker -> how many of its lanes have a lease
-- workers:missed          hash   worker -> how many leases in a row it has not begun
-- workers:known           zset   workers that may have queues on the broker -> last heartbeat
-- workers:sweep           string which turn of which worker sweeps; it expires
-- workers:clock           hash   at: when the last call came; most: the longest pause that counts
-- workers:stuck:SERVICE   string why the last worker could not start (JSON); it expires
-- workers:opening         zset   worker -> when it claimed the collection for its encoder
-- encoder                 hash   identity info (of the encoder that has the collection)
-- request:ID              hash   operation state owner attempts requeues requeued_at (the first
--                                time) since created_at finished_at error caller
-- requests                zset   open requests -> when to look at them again
-- requests:by:CALLER      set    those of its requests that are not answered; some may have gone
-- requests:expiry         zset   request -> when its blobs go
-- tombstones              set    keys of what was deleted
-- tombstones:by           hash   key -> the deletion that added it last
-- tombstones:fresh        set    keys that the lists of uploads were not yet compared with
-- uploads:mentions        hash   upload -> digests of the keys that its list mentions
-- withheld                zset   an image in quarantine, POINT-DIGEST -> its place in the list
-- withheld:unfinished     zset   one whose blobs are written or deleted just now -> since when
-- withheld:entries        hash   both -> JSON: why, since when, of which job, digests of its keys
-- withheld:points         hash   point -> those of its images, with blanks between them
-- withheld:releases       hash   image in quarantine -> the last job that was to release it
-- withheld:refused        hash   digest of a picture that an admin has refused -> its point
-- incoming                zset   batch of received objects -> when anybody may make a job of it
-- incoming:files          hash   batch -> how many objects were received for it
-- incoming:closing        hash   batch -> the token of whoever makes a job of it
-- incoming:jobs           hash   job that was made of a batch -> its rows; ended ones go in time
-- deletions:pending       set    deletions that a job may still refer to
-- epoch                   number grows when images have been deleted
-- tokens                  number the last token of a lease
-- reconciled              number when `reclaim` was last called
--
-- An item is a piece of work: item 0 of a job is its plan, item N is the shard of the rows
-- [(N-1) * shard_size, N * shard_size).

local commands = {}
local call = redis.call
local ns = KEYS[1]

local time = call('TIME')
local now = tonumber(time[1]) + tonumber(time[2]) / 1e6

local WORKING = { planning = true, running = true }

local function job_key(job) return ns .. ':job:' .. job end
local function claims_key(scope) return ns .. ':claims:' .. scope end
local function item_key(job, item) return ns .. ':item:' .. job .. ':' .. item end
local function leases_key(queue) return ns .. ':leases:' .. queue end
local function active_key(queue) return ns .. ':active:' .. queue end
local function load_key(queue) return ns .. ':workers:load:' .. queue end
local function lanes_key(queue) return ns .. ':workers:lanes:' .. queue end
local function quarantine_key(queue) return ns .. ':quarantine:' .. queue end

local elsewhere = ns .. ':elsewhere'
local function avoidance(job, worker) return job .. ' ' .. worker end

local function get(key, field) return call('HGET', key, field) end
local function number(key, field) return tonumber(get(key, field) or 0) end
local function queue_of(job) return get(job_key(job), 'queue') end
local function queues() return call('SMEMBERS', ns .. ':queues') end

-- Leases and waiting items are members of sorted sets.
local function member_of(job, item) return job .. ':' .. item end
local function split(member) return string.match(member, '^(.*):(%d+)$') end

-- The fields of a hash, as a table.
local function fields_of(key)
  local found, reply = {}, call('HGETALL', key)
  for i = 1, #reply, 2 do found[reply[i]] = reply[i + 1] end
  return found
end

-- A reply is a list of names and values, as HGETALL gives it. Values that are false are left out.
local function named(fields)
  local reply = {}
  for name, value in pairs(fields) do
    if value then
      reply[#reply + 1] = name
      reply[#reply + 1] = type(value) == 'table' and value or tostring(value)
    end
  end
  return reply
end
