-- KEYS account journal   ARGV limit keep_ms
-- An account that is there keeps what it has: twice is once.
if redis.call('EXISTS', KEYS[1]) == 1 then
    return {'ok'}
end
redis.call('HSET', KEYS[1], 'limit', ARGV[1], 'spent', '0', 'reserved', '0', 'overdraft', '0')
record(KEYS[2], ARGV[2], 'created', '', '', tonumber(ARGV[1]))
return {'ok'}
