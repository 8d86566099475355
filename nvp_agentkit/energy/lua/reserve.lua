-- KEYS account reservation open journal   ARGV member reservation_id mj parts expires_ms keep_ms
local account, reservation, open, journal = KEYS[1], KEYS[2], KEYS[3], KEYS[4]
local member, id, mj, parts, expires_ms, keep_ms = ARGV[1], ARGV[2], tonumber(ARGV[3]), ARGV[4], ARGV[5], ARGV[6]

local function grant()
    return {'ok', redis.call('HGETALL', reservation)}
end

local state = redis.call('HGET', reservation, 'state')
if state then
    if amount_of(reservation, 'granted') ~= mj or redis.call('HGET', reservation, 'parts') ~= parts then
        return {'conflict', redis.call('HGET', reservation, 'granted'), redis.call('HGET', reservation, 'parts')}
    end
    if state == 'refused' then
        return {'refused', redis.call('HGET', reservation, 'free')}
    end
    -- A redelivery may ask for more time, never for less. Its place in `open` may be too early then: `reap` looks again.
    if state == 'open' and tonumber(expires_ms) > amount_of(reservation, 'expires_ms') then
        redis.call('HSET', reservation, 'expires_ms', expires_ms)
    end
    return grant()
end

if redis.call('EXISTS', account) == 0 then
    return {'unknown'}
end
local free = free_of(account)
if mj > free then
    -- A refusal is remembered, so that all voters of one request are told the same.
    redis.call('HSET', reservation, 'state', 'refused', 'granted', text(mj), 'parts', parts, 'free', text(free))
    keep(reservation, keep_ms)
    record(journal, keep_ms, 'refused', id, '', mj)
    return {'refused', text(free)}
end
redis.call('HINCRBY', account, 'reserved', text(mj))
redis.call('HSET', reservation, 'state', 'open', 'granted', text(mj), 'held', text(mj), 'parts', parts,
    'expires_ms', expires_ms)
redis.call('ZADD', open, expires_ms, member)
record(journal, keep_ms, 'reserved', id, '', mj)
return grant()
