-- A dead letter is removed for good. Returns 1, or 0 where it is gone already.
-- KEYS stream, its dead letters, what was done with them   ARGV letter id, who, now in ms, TTL in s
local found = redis.call('XRANGE', KEYS[2], ARGV[1], ARGV[1])
if #found == 0 then return 0 end
local letter = {}
for i = 1, #found[1][2], 2 do letter[found[1][2][i]] = found[1][2][i + 1] end
redis.call('XDEL', KEYS[2], ARGV[1])
redis.call('XADD', KEYS[3], 'MAXLEN', '~', 10000, '*', 'what', 'dropped', 'letter', ARGV[1], 'stream', KEYS[1],
  'reason', letter.reason, 'as', '', 'by', ARGV[2], 'at_ms', ARGV[3])
redis.call('EXPIRE', KEYS[3], ARGV[4])
return 1
