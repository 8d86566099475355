-- Entries done, each all at once: fence, effects, acknowledge, forget. Returns for each 1, or 0 when it is not (any more)
-- this consumer's: then nothing at all has happened. An error stands in the place of the entry that it stopped, which
-- stays pending; its neighbours, of its own stream and of others, are not touched by it.
--
-- KEYS  for each entry its stream, that stream's dead letters, and the keys of its effects in their order
-- ARGV  group, consumer ('' = no entries, effects only), TTL in s, now in ms, then for each entry its id, how many keys
--       and arguments its effects have, and the effects:
--       'fence'  value                key: where its field `fence` is another one, nothing happens; comes first
--       'once'   TTL in s             marker key: where it exists, the effects after it are left out
--       'dead'   reason attempts      the entry's raw fields, the reason and what was replied go to the dead letters
--       'reply'  request type event   keys answers, replies: once per request and type
--       'append' keep event           key of a stream; keep '0' gives it the TTL
--       'set'    keep field value     key of a hash
--       'dated'  field object         key of a hash: the object joins the list there, stamped with when it holds
--       'remove' member               key of a sorted set
--       'unset'  field value          key of a hash: done with, unless it holds another value by now
local REPLIES_KEPT = 1000   -- readers look into the answers as well, so this bounds memory, not correctness
local DEAD_KEPT, DEAD_BYTES = 1000, 8 * 2^20   -- of a stream; where either is passed the oldest go
local RAW_FIELDS, RAW_BYTES = 64, 65536   -- evidence of a hostile entry, not all of it: these letters stay
local DATED_KEPT = 32       -- what an entry older than all of them meant is no longer asked
local BACKLOG = 10000       -- a dead group further behind than this forfeits its place
local DEAD_MS = 300000      -- dead: none of its consumers read or renewed for so long; both happen every few seconds
local HELD = 1000           -- a consumer holds fewer entries than this; beyond it they are asked for one by one

local group, consumer, ttl, now = ARGV[1], ARGV[2], ARGV[3], ARGV[4]
local keys_used, args_used = 0, 4
local stream, dead, id      -- of the entry at hand

local function key() keys_used = keys_used + 1; return KEYS[keys_used] end
local function arg() args_used = args_used + 1; return ARGV[args_used] end

local function bury(reason, attempts, told, raw)
  local room, size = RAW_BYTES, 0
  for _, part in ipairs(raw) do size = size + #part end
  local letter = {'reason', reason, 'id', id, 'group', group, 'worker', consumer, 'at_ms', now,
                  'attempts', attempts, 'told', table.concat(told, ' '), 'size', size}
  for i = 1, math.min(#raw, 2 * RAW_FIELDS), 2 do
    if room == 0 then break end
    local name = string.sub(raw[i], 1, room)
    local value = string.sub(raw[i + 1], 1, room - #name)
    room = room - #name - #value
    letter[#letter + 1], letter[#letter + 2] = 'raw:' .. name, value
  end
  redis.call('XADD', dead, 'MAXLEN', '~', DEAD_KEPT, '*', unpack(letter))
  while redis.call('MEMORY', 'USAGE', dead, 'SAMPLES', 0) > DEAD_BYTES do
    redis.call('XTRIM', dead, 'MAXLEN', math.floor(0.9 * redis.call('XLEN', dead)))
  end
end

local effects = {}
local told, last_words     -- what was replied to the entry at hand, and why it dies, if it does

function effects.once()
  return redis.call('SET', key(), id, 'NX', 'EX', arg())
end

function effects.dead()
  last_words = {arg(), arg()}
  return true
end

function effects.reply()
  local answers, replies, request, kind, event = key(), key(), arg(), arg(), arg()
  if redis.call('HSETNX', answers, kind, event) == 1 then
    redis.call('EXPIRE', answers, ttl)
    told[#told + 1] = kind
    redis.call('XADD', replies, 'MAXLEN', '~', REPLIES_KEPT, '*', 'event', event, 'replyto', request, 'type', kind)
  end
  return true
end

function effects.append()
  local target, keep, event = key(), arg(), arg()
  redis.call('XADD', target, '*', 'event', event)
  if keep == '0' then redis.call('EXPIRE', target, ttl) end
  return true
end

function effects.set()
  local target, keep, field, value = key(), arg(), arg(), arg()
  redis.call('HSET', target, field, value)
  if keep == '0' then redis.call('EXPIRE', target, ttl) end
  return true
end

-- Entries of this very millisecond may have been read by some who did not see it: it holds from the next one on.
function effects.dated()
  local target, field, object = key(), arg(), cjson.decode(arg())
  local readable, list = pcall(cjson.decode, redis.call('HGET', target, field) or '[]')
  if not readable or type(list) ~= 'table' then list = {} end
  local time = redis.call('TIME')
  local last = list[#list] and tonumber(list[#list].since_ms) or 0
  object.since_ms = math.max(tonumber(time[1]) * 1000 + math.floor(tonumber(time[2]) / 1000) + 1, last)
  list[#list + 1] = object
  while #list > DATED_KEPT do table.remove(list, 1) end
  redis.call('HSET', target, field, cjson.encode(list))
  return true
end

function effects.remove()
  redis.call('ZREM', key(), arg())
  return true
end

function effects.unset()
  local target, field, value = key(), arg(), arg()
  if redis.call('HGET', target, field) == value then redis.call('HDEL', target, field) end
  return true
end

-- Who may publish may choose an id, of numbers up to 2^64 - 1: no double holds these, so they are counted as digits.
local LAST = '18446744073709551615'

local function larger(a, b)
  if #a ~= #b then return #a > #b end
  return a > b
end

local function later(a, b)
  local a_ms, a_seq = string.match(a, '(%d+)-(%d+)')
  local b_ms, b_seq = string.match(b, '(%d+)-(%d+)')
  if a_ms ~= b_ms then return larger(a_ms, b_ms) end
  return larger(a_seq, b_seq)
end

local function plus_one(number)
  local head, digit, nines = string.match('0' .. number, '^0?(%d*)([0-8])(9*)$')
  return head .. digit + 1 .. string.rep('0', #nines)
end

-- The lowest id that the group still needs: its oldest pending entry, else what follows the last delivered.
local function needs(info)
  if info.pending > 0 then return redis.call('XPENDING', stream, info.name)[2] end
  local ms, seq = string.match(info['last-delivered-id'], '(%d+)-(%d+)')
  if seq == LAST then return plus_one(ms) .. '-0' end
  return ms .. '-' .. plus_one(seq)
end

local function lives(name)
  for _, flat in ipairs(redis.call('XINFO', 'CONSUMERS', stream, name)) do
    for i = 1, #flat, 2 do
      if flat[i] == 'idle' and flat[i + 1] < DEAD_MS then return true end
    end
  end
  return false
end

local function forget(done)
  local groups = redis.call('XINFO', 'GROUPS', stream)
  if #groups == 1 then return redis.call('XDEL', stream, unpack(done)) end
  local lowest, last
  for _, flat in ipairs(groups) do
    local info = {}
    for i = 1, #flat, 2 do info[flat[i]] = flat[i + 1] end
    local need = needs(info)
    if not lowest or later(lowest, need) then lowest, last = need, info.name end
  end
  redis.call('XTRIM', stream, 'MINID', lowest)
  if redis.call('XLEN', stream) > BACKLOG and not lives(last) then
    redis.call('XGROUP', 'DESTROY', stream, last)
    redis.call('XGROUP', 'CREATE', stream, last, '$')
    bury('group ' .. last .. ' is dead, fell ' .. BACKLOG .. ' entries behind and forfeits them', 0, {}, {})
  end
end

local function pending(from, to, count)
  local found = redis.pcall('XPENDING', stream, group, from, to, count, consumer)
  return found.err and {} or found  -- the group, or the stream, is gone
end

-- Whether nobody has begun the job of the entry at hand since; true where it has no fence.
local function newest(last_arg)
  if args_used == last_arg or ARGV[args_used + 1] ~= 'fence' then return true end
  arg()
  return redis.pcall('HGET', key(), 'fence') == arg()
end

local holdings = {}         -- by stream
local function mine(entry)
  if consumer == '' then return true end
  local held = holdings[stream]
  if not held then
    local all = pending('-', '+', HELD)
    held = {complete = #all < HELD}
    for _, one in ipairs(all) do held[one[1]] = true end
    holdings[stream] = held
  end
  return held[entry] or (not held.complete and #pending(entry, entry, 1) == 1)
end

local results, done = {}, {}   -- done: of each stream its dead letters and its entries
while args_used < #ARGV do
  stream, dead, id = key(), key(), arg()
  local n_keys, n_args = tonumber(arg()), tonumber(arg())
  local last_key, last_arg = keys_used + n_keys, args_used + n_args
  if mine(id) and newest(last_arg) then
    told, last_words = {}, nil
    local ok, why = pcall(function()
      while args_used < last_arg and effects[arg()]() do end
      if last_words then
        local found = redis.call('XRANGE', stream, id, id)
        bury(last_words[1], last_words[2], told, found[1] and found[1][2] or {})
      end
    end)
    if ok then
      done[stream] = done[stream] or {dead = dead, ids = {}}
      table.insert(done[stream].ids, id)
    end
    results[#results + 1] = ok and 1 or {err = type(why) == 'table' and why.err or tostring(why)}
  else
    results[#results + 1] = 0
  end
  keys_used, args_used = last_key, last_arg
end
if consumer ~= '' then
  for name, of in pairs(done) do redis.call('XACK', name, group, unpack(of.ids)) end
  for name, of in pairs(done) do
    stream, dead, id = name, of.dead, of.ids[#of.ids]
    local ok, why = pcall(forget, of.ids)   -- what is done is done, though it may stay
    if not ok then redis.log(redis.LOG_WARNING, stream .. ' not tidied: ' .. (type(why) == 'table' and why.err or why)) end
  end
end
return results
