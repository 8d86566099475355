-- Begin a work, perhaps once more, for one attempt at a job. Returns its new fence and what earlier ones pointed at; or
-- nothing, where a later attempt at that job has begun: this one was slow to ask, and would put the fence before the
-- attempt that has the job now. Nothing has happened then.
-- KEYS work, job (the same where a job is its own work)   ARGV attempt, TTL of the work in s, TTL of the job in s
local work, job, attempt = KEYS[1], KEYS[2], tonumber(ARGV[1])
if attempt < tonumber(redis.call('HGET', job, 'attempt') or '0') then return {} end
redis.call('HSET', job, 'attempt', ARGV[1])
local fence = redis.call('HINCRBY', work, 'fence', 1)
redis.call('EXPIRE', job, ARGV[3])
redis.call('EXPIRE', work, ARGV[2])
return {fence, redis.call('HGET', work, 'at')}
