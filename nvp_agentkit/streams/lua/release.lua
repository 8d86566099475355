-- Let go of an entry, if it is still mine: it looks idle for `idle` ms, so that the next sweep after
-- (lease - idle) takes it, and counts as delivered `deliveries` times. With a TTL it is remembered that this delivery did
-- not end in silence. Returns 1 or 0.
-- KEYS stream, how often the entry was given back   ARGV group, consumer, entry id, idle, deliveries, TTL in s or 0
local mine = redis.pcall('XPENDING', KEYS[1], ARGV[1], ARGV[3], ARGV[3], 1, ARGV[2])
if mine.err or #mine == 0 then return 0 end
redis.call('XCLAIM', KEYS[1], ARGV[1], ARGV[2], 0, ARGV[3], 'IDLE', ARGV[4], 'RETRYCOUNT', ARGV[5], 'JUSTID')
if ARGV[6] ~= '0' then redis.call('SET', KEYS[2], (redis.call('GET', KEYS[2]) or 0) + 1, 'EX', ARGV[6]) end
return 1
