-- KEYS account reservation open journal   ARGV member reservation_id now_ms keep_ms
-- Ends one reservation whose time is over: each part that has not said its last word pays its whole share, unless it is
-- at rest: its last attempt said what it used, and none has begun since.
local account, reservation, open, journal = KEYS[1], KEYS[2], KEYS[3], KEYS[4]
local member, id, now_ms, keep_ms = ARGV[1], ARGV[2], tonumber(ARGV[3]), ARGV[4]

if redis.call('EXISTS', reservation) == 0 then
    redis.call('ZREM', open, member) -- deleted by hand: nothing is known that could be charged
end
if redis.call('HGET', reservation, 'state') ~= 'open' or amount_of(reservation, 'expires_ms') > now_ms then
    return {'ok', false}
end

local function at_rest(part)
    local rest = redis.call('HGET', reservation, 'rest:' .. part)
    return rest and rest ~= '' and rest == redis.call('HGET', reservation, 'fence:' .. part)
end

local parts = amount_of(reservation, 'parts')
local share = math.floor(amount_of(reservation, 'granted') / parts)
local charge = (parts - amount_of(reservation, 'seen')) * share
for _, field in ipairs(redis.call('HKEYS', reservation)) do
    local part = string.match(field, '^seq:(.*)$')
    if part and not redis.call('HGET', reservation, 'final:' .. part) and not at_rest(part) then
        charge = charge + share - amount_of(reservation, 'paid:' .. part)
        redis.call('HSET', reservation, 'paid:' .. part, text(share))
    end
end
redis.call('HINCRBY', account, 'reserved', text(-charge))
redis.call('HINCRBY', account, 'spent', text(charge))
redis.call('HINCRBY', reservation, 'held', text(-charge))
close(reservation, account, open, member, 'reaped', keep_ms)
record(journal, keep_ms, 'reaped', id, '', charge)
return {'ok', text(charge)}
