-- Claim request ids for the entries that carry them. Returns of each 1 (the entry's own, now or already), 0 (another's,
-- who asks the same), 2 (another's, who asks something else) or 3 (its own, and `most` entries or more came after it, of
-- this call and of those that nobody has taken yet).
-- An entry that is in nobody's hands any more claims nothing: its stream was emptied meanwhile, and whoever asks again
-- would be told that this has been asked.
-- KEYS of each entry its stream and its id, those of a stream in their order   ARGV group, most ('0': any number), then
-- of each its id, what it first came as, a digest of what it asks and TTL in s; '0' claims nothing
local group, most = ARGV[1], tonumber(ARGV[2])

local streams = {}          -- of each the first and the last entry, how many of its ids are asked for, and what is pending
local function in_hand(stream, entry)
  local seen = streams[stream]
  if not seen.pending then
    seen.pending = {}
    local found = redis.pcall('XPENDING', stream, group, seen.first, seen.last, seen.count)
    for _, one in ipairs(found.err and {} or found) do seen.pending[one[1]] = true end
  end
  if seen.pending[entry] then return true end
  local alone = redis.pcall('XPENDING', stream, group, entry, entry, 1)   -- others may stand between first and last
  return not alone.err and #alone == 1
end

-- Of a stream that other groups read as well, what is done with is still there: nobody can tell.
local function untaken(stream)
  local groups = redis.pcall('XINFO', 'GROUPS', stream)
  if groups.err or #groups ~= 1 then return 0 end
  for i = 1, #groups[1], 2 do
    if groups[1][i] == 'pending' then return redis.call('XLEN', stream) - groups[1][i + 1] end
  end
end

for i = 1, #KEYS, 2 do
  local stream, entry = KEYS[i], ARGV[2 * i + 1]
  local seen = streams[stream] or {first = entry, count = 0}
  seen.last, seen.count = entry, seen.count + 1
  streams[stream] = seen
end

local found = {}
for i = 1, #KEYS, 2 do
  local stream, id = KEYS[i], KEYS[i + 1]
  local entry, origin, asks, ttl = unpack(ARGV, 2 * i + 1, 2 * i + 4)
  local mine = stream .. ' ' .. origin
  local says = 1
  if ttl ~= '0' and redis.call('SET', id, mine .. ' ' .. asks, 'NX', 'EX', ttl) then
    if not in_hand(stream, entry) then redis.call('DEL', id) end
  else
    local claimed = redis.pcall('GET', id) or mine
    if type(claimed) ~= 'string' then claimed = '' end   -- a key of another type is nobody's claim that we know
    local owner, asked = string.match(claimed, '^(%S+ %S+) ?(.*)$')
    says = owner == mine and 1 or (asked == asks and 0 or 2)
  end
  if most > 0 then
    local seen = streams[stream]
    seen.after = (seen.after or untaken(stream) + seen.count) - 1
    if says == 1 and seen.after >= most then says = 3 end
  end
  found[#found + 1] = says
end
return found
