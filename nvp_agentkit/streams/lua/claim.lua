-- Claim request ids for the entries of one stream that carry them. Returns of each 1 (the entry's own, now or already),
-- 0 (another's, who asks the same) or 2 (another's, who asks something else).
-- KEYS one per id   ARGV stream, then of each its entry, a digest of what it asks and TTL in s; '0' claims nothing
local mine = {}
for i, key in ipairs(KEYS) do
  local entry, asks, ttl = ARGV[1] .. ' ' .. ARGV[3 * i - 1], ARGV[3 * i], ARGV[3 * i + 1]
  if ttl ~= '0' then redis.call('SET', key, entry .. ' ' .. asks, 'NX', 'EX', ttl) end
  local owner, asked = string.match(redis.call('GET', key) or entry, '^(%S+ %S+) ?(.*)$')
  mine[i] = owner == entry and 1 or (asked == asks and 0 or 2)
end
return mine
