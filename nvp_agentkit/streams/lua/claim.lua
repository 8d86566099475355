-- Claim request ids for the entries of one stream that carry them. Returns of each 1 (the entry's own, now or already),
-- 0 (another's, who asks the same) or 2 (another's, who asks something else).
-- An entry that is in nobody's hands any more claims nothing: its stream was emptied meanwhile, and whoever asks again
-- would be told that this has been asked.
-- KEYS stream, one per id   ARGV group, then of each its entry, what it first came as, a digest of what it asks and TTL
-- in s; '0' claims nothing
local stream, group = KEYS[1], ARGV[1]

local pending             -- what is in hands between the first entry and the last; others may stand between them
local function in_hand(entry)
  if not pending then
    pending = {}
    local found = redis.pcall('XPENDING', stream, group, ARGV[2], ARGV[#ARGV - 3], #KEYS)
    for _, one in ipairs(found.err and {} or found) do pending[one[1]] = true end
  end
  if pending[entry] then return true end
  local alone = redis.pcall('XPENDING', stream, group, entry, entry, 1)
  return not alone.err and #alone == 1
end

local found = {}
for i = 2, #KEYS do
  local entry, origin, asks, ttl = unpack(ARGV, 4 * i - 6, 4 * i - 3)
  local mine = stream .. ' ' .. origin
  if ttl ~= '0' and redis.call('SET', KEYS[i], mine .. ' ' .. asks, 'NX', 'EX', ttl) then
    if not in_hand(entry) then redis.call('DEL', KEYS[i]) end
    found[i - 1] = 1
  else
    local owner, asked = string.match(redis.call('GET', KEYS[i]) or mine, '^(%S+ %S+) ?(.*)$')
    found[i - 1] = owner == mine and 1 or (asked == asks and 0 or 2)
  end
end
return found
