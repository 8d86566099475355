-- One entry done, all at once: fence, effects, acknowledge, forget. Returns 1, or 0 when the entry is not
-- (any more) this consumer's: then nothing at all has happened.
--
-- KEYS  stream, its dead letters, then the keys of the effects in their order
-- ARGV  group, consumer ('' = no entry, effects only), entry id, TTL in s, now in ms, then the effects:
--       'once'   TTL in s             marker key: where it exists, the effects after it are left out
--       'dead'   reason               the entry's raw fields and the reason go to the dead letters
--       'reply'  request type event   keys answers, replies: once per request and type
--       'append' keep event           key of a stream; keep '0' gives it the TTL
--       'set'    keep field value     key of a hash
--       'remove' member               key of a sorted set
local REPLIES_KEPT = 1000   -- readers look into the answers as well, so this bounds memory, not correctness
local DEAD_KEPT = 1000
local RAW_FIELDS, RAW_BYTES = 64, 65536   -- evidence of a hostile entry, not all of it: these letters stay
local BACKLOG = 10000       -- a group further behind than this forfeits its place

local stream, dead = KEYS[1], KEYS[2]
local group, consumer, id, ttl, now = ARGV[1], ARGV[2], ARGV[3], ARGV[4], ARGV[5]
local keys_used, args_used = 2, 5

local function key() keys_used = keys_used + 1; return KEYS[keys_used] end
local function arg() args_used = args_used + 1; return ARGV[args_used] end

local function bury(reason, raw)
  local letter = {'reason', reason, 'id', id, 'group', group, 'worker', consumer, 'at_ms', now}
  local room = RAW_BYTES
  for i = 1, math.min(#raw, 2 * RAW_FIELDS), 2 do
    if room == 0 then break end
    local name = string.sub(raw[i], 1, room)
    local value = string.sub(raw[i + 1], 1, room - #name)
    room = room - #name - #value
    letter[#letter + 1], letter[#letter + 2] = 'raw:' .. name, value
  end
  redis.call('XADD', dead, 'MAXLEN', '~', DEAD_KEPT, '*', unpack(letter))
end

local effects = {}

function effects.once()
  return redis.call('SET', key(), id, 'NX', 'EX', arg())
end

function effects.dead()
  local found = redis.call('XRANGE', stream, id, id)
  bury(arg(), found[1] and found[1][2] or {})
  return true
end

function effects.reply()
  local answers, replies, request, kind, event = key(), key(), arg(), arg(), arg()
  if redis.call('HSETNX', answers, kind, event) == 1 then
    redis.call('EXPIRE', answers, ttl)
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

function effects.remove()
  redis.call('ZREM', key(), arg())
  return true
end

local function later(a, b)
  local a_ms, a_seq = string.match(a, '(%d+)-(%d+)')
  local b_ms, b_seq = string.match(b, '(%d+)-(%d+)')
  if tonumber(a_ms) ~= tonumber(b_ms) then return tonumber(a_ms) > tonumber(b_ms) end
  return tonumber(a_seq) > tonumber(b_seq)
end

-- The lowest id that the group still needs: its oldest pending entry, else what follows the last delivered.
local function needs(info)
  if info.pending > 0 then return redis.call('XPENDING', stream, info.name)[2] end
  local ms, seq = string.match(info['last-delivered-id'], '(%d+)-(%d+)')
  return ms .. '-' .. string.format('%.0f', tonumber(seq) + 1)
end

local function forget()
  local groups = redis.call('XINFO', 'GROUPS', stream)
  if #groups == 1 then return redis.call('XDEL', stream, id) end
  local lowest, last
  for _, flat in ipairs(groups) do
    local info = {}
    for i = 1, #flat, 2 do info[flat[i]] = flat[i + 1] end
    local need = needs(info)
    if not lowest or later(lowest, need) then lowest, last = need, info.name end
  end
  redis.call('XTRIM', stream, 'MINID', lowest)
  if redis.call('XLEN', stream) > BACKLOG then
    redis.call('XGROUP', 'DESTROY', stream, last)
    redis.call('XGROUP', 'CREATE', stream, last, '$')
    bury('group ' .. last .. ' fell ' .. BACKLOG .. ' entries behind and forfeits them', {})
  end
end

if consumer ~= '' then
  local mine = redis.pcall('XPENDING', stream, group, id, id, 1, consumer)
  if mine.err or #mine == 0 then return 0 end
end
while args_used < #ARGV do
  if not effects[arg()]() then break end
end
if consumer ~= '' then
  redis.call('XACK', stream, group, id)
  forget()
end
return 1
