-- KEYS account top_up journal   ARGV top_up_id mj most keep_ms
if redis.call('EXISTS', KEYS[1]) == 0 then
    return {'unknown'}
end
if redis.call('EXISTS', KEYS[2]) == 1 then
    return {'ok'}
end
local limit = amount_of(KEYS[1], 'limit') + tonumber(ARGV[2])
if limit > tonumber(ARGV[3]) then
    return {'too_much', text(limit)}
end
redis.call('SET', KEYS[2], ARGV[2], 'PX', ARGV[4])
redis.call('HSET', KEYS[1], 'limit', text(limit))
record(KEYS[3], ARGV[4], 'topped_up', ARGV[1], '', tonumber(ARGV[2]))
return {'ok'}
