-- Add a line to a job's story, unless somebody has begun the job since. Returns 1, or 0: nothing happened.
-- KEYS story, job   ARGV fence ('0': nobody has begun it), event, how many lines are kept, TTL in s
if (redis.call('HGET', KEYS[2], 'fence') or '0') ~= ARGV[1] then return 0 end
redis.call('XADD', KEYS[1], 'MAXLEN', '~', ARGV[3], '*', 'event', ARGV[2])
redis.call('EXPIRE', KEYS[1], ARGV[4])
return 1
