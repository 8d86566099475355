-- How far the groups of a stream are behind. Returns {age of its oldest entry in ms, dead letters, {group, waiting,
-- in hands, read so far}...}. Where the server does not know what waits (Redis 6.2, or after deletions) it is what is on the stream
-- and in nobody's hands: exact for one group, at most that for several.
-- KEYS stream, its dead letters
local groups = redis.pcall('XINFO', 'GROUPS', KEYS[1])
if groups.err then return {0, 0} end
local oldest, age = redis.call('XRANGE', KEYS[1], '-', '+', 'COUNT', 1)[1], 0
if oldest then
  local now = redis.call('TIME')
  age = math.max(0, now[1] * 1000 + math.floor(now[2] / 1000) - tonumber(string.match(oldest[1], '^%d+')))
end
local told = {age, redis.call('XLEN', KEYS[2])}
for _, flat in ipairs(groups) do
  local info = {}
  for i = 1, #flat, 2 do info[flat[i]] = flat[i + 1] end
  local lag = info.lag or math.max(0, redis.call('XLEN', KEYS[1]) - info.pending)
  told[#told + 1] = {info.name, lag, info.pending, info['entries-read'] or 0}
end
return told
