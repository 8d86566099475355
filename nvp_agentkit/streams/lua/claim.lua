-- Claim request ids for the entries that carry them. Returns of each 1 (the entry's own, now or already), 0 (another's,
-- who asks the same) or 2 (another's, who asks something else).
-- An entry that is in nobody's hands any more claims nothing: its stream was emptied meanwhile, and whoever asks again
-- would be told that this has been asked.
-- KEYS of each entry its stream and its id   ARGV group, then of each its id, what it first came as, a digest of what it
-- asks and TTL in s; '0' claims nothing
local group = ARGV[1]

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

for i = 1, #KEYS, 2 do
  local stream, entry = KEYS[i], ARGV[2 * i]
  local seen = streams[stream] or {first = entry, count = 0}
  seen.last, seen.count = entry, seen.count + 1
  streams[stream] = seen
end

local found = {}
for i = 1, #KEYS, 2 do
  local stream, id = KEYS[i], KEYS[i + 1]
  local entry, origin, asks, ttl = unpack(ARGV, 2 * i, 2 * i + 3)
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
  found[#found + 1] = says
end
return found
