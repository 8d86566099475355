-- Claim request ids for the entries of one stream that carry them. Returns one 1 (the entry's own, now or already) or 0
-- (another's) per id.
-- KEYS one per id   ARGV stream, then of each its entry and TTL in s
local mine = {}
for i, key in ipairs(KEYS) do
  local entry = ARGV[1] .. ' ' .. ARGV[2 * i]
  local first = redis.call('SET', key, entry, 'NX', 'EX', ARGV[2 * i + 1])
  mine[i] = (first or redis.call('GET', key) == entry) and 1 or 0
end
return mine
