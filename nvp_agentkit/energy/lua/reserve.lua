-- KEYS account reservation open journal   ARGV member reservation_id mj parts expires_ms part attempt keep_ms
-- With a `part` that part begins, perhaps once more: from now on only what comes under its new fence is settled, and
-- a last word whose answer was lost is open again, with the whole reservation if that closed over it. Not so an earlier
-- `attempt` than its last: that one was slow to ask, and would put the fence before the attempt that has the work now.
local account, reservation, open, journal = KEYS[1], KEYS[2], KEYS[3], KEYS[4]
local member, id, mj, parts, expires_ms = ARGV[1], ARGV[2], tonumber(ARGV[3]), ARGV[4], ARGV[5]
local part, attempt, keep_ms = ARGV[6], tonumber(ARGV[7]), ARGV[8]

local function grant()
    return {'ok', redis.call('HGETALL', reservation)}
end

local function hold(amount)
    redis.call('HINCRBY', account, 'reserved', text(amount))
    redis.call('HSET', reservation, 'state', 'open', 'held', text(amount), 'expires_ms', expires_ms)
    redis.call('ZADD', open, expires_ms, member)
end

local function paid()
    local sum = 0
    for _, field in ipairs(redis.call('HKEYS', reservation)) do
        if string.match(field, '^paid:') then sum = sum + amount_of(reservation, field) end
    end
    return sum
end

local function begin(state)
    if part == '' or (state ~= 'open' and state ~= 'settled') then return grant() end
    if amount_of(reservation, 'seen') >= tonumber(parts) and not redis.call('HGET', reservation, 'seq:' .. part) then
        return {'parts', parts}
    end
    local last = amount_of(reservation, 'attempt:' .. part)
    if attempt < last then return {'late', text(attempt), text(last)} end
    if state == 'settled' then
        local rest, free = mj - paid(), free_of(account)
        if rest > free then return {'refused', text(rest), text(free)} end
        hold(rest)
        redis.call('PERSIST', reservation)
        record(journal, keep_ms, 'reopened', id, part, rest)
    end
    if redis.call('HDEL', reservation, 'final:' .. part) == 1 then
        redis.call('HINCRBY', reservation, 'finals', -1)
    end
    redis.call('HINCRBY', reservation, 'fence:' .. part, 1)
    redis.call('HSET', reservation, 'attempt:' .. part, text(attempt))
    return grant()
end

local state = redis.call('HGET', reservation, 'state')
if state then
    if amount_of(reservation, 'granted') ~= mj or redis.call('HGET', reservation, 'parts') ~= parts then
        return {'conflict', text(mj), redis.call('HGET', reservation, 'granted'), redis.call('HGET', reservation, 'parts')}
    end
    if state == 'refused' then
        return {'refused', text(mj), redis.call('HGET', reservation, 'free')}
    end
    -- A redelivery may ask for more time, never for less. Its place in `open` may be too early then: `reap` looks again.
    if state == 'open' and tonumber(expires_ms) > amount_of(reservation, 'expires_ms') then
        redis.call('HSET', reservation, 'expires_ms', expires_ms)
    end
    return begin(state)
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
    return {'refused', text(mj), text(free)}
end
redis.call('HSET', reservation, 'granted', text(mj), 'parts', parts)
hold(mj)
record(journal, keep_ms, 'reserved', id, '', mj)
return begin('open')
