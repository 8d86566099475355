-- Claim request ids for the entries that carry them. Returns one 1 (the entry's own, now or already) or 0 (another's)
-- per id.
-- KEYS one per id   ARGV entry, TTL in s, and so on
local mine = {}
for i, key in ipairs(KEYS) do
  local entry = ARGV[2 * i - 1]
  local first = redis.call('SET', key, entry, 'NX', 'EX', ARGV[2 * i])
  mine[i] = (first or redis.call('GET', key) == entry) and 1 or 0
end
return mine
