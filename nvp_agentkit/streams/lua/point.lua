-- Let a job's checkpoint be another one, unless somebody has begun the job since. Returns 1, or 0: nothing happened.
-- KEYS job   ARGV fence, what is pointed at, TTL in s
if redis.call('HGET', KEYS[1], 'fence') ~= ARGV[1] then return 0 end
redis.call('HSET', KEYS[1], 'at', ARGV[2])
redis.call('EXPIRE', KEYS[1], ARGV[3])
return 1
