-- KEYS account reservation open journal   ARGV member reservation_id part mj seq final fence rest keep_ms
-- `mj` is what the part used in total so far. A part pays at most its share; what is beyond becomes an overdraft,
-- on record and charged to nobody's limit. Under a fence ('' = none) that is not the part's newest nothing changes.
-- `rest`: nobody is at work on the part until it is begun again, which `reap` reads from the fence that is kept.
local account, reservation, open, journal = KEYS[1], KEYS[2], KEYS[3], KEYS[4]
local member, id, part, fence, keep_ms = ARGV[1], ARGV[2], ARGV[3], ARGV[7], ARGV[9]
local used, seq, final, rest = tonumber(ARGV[4]), tonumber(ARGV[5]), ARGV[6] == '1', ARGV[8] == '1'

local function grant()
    return {'ok', redis.call('HGETALL', reservation)}
end

local state = redis.call('HGET', reservation, 'state')
if not state or state == 'refused' then
    return {'missing'}
end
if fence ~= '' and fence ~= redis.call('HGET', reservation, 'fence:' .. part) then
    return grant()
end
local last_seq = redis.call('HGET', reservation, 'seq:' .. part)
if redis.call('HGET', reservation, 'final:' .. part) or (last_seq and seq <= tonumber(last_seq)) then
    return grant()
end
local parts = amount_of(reservation, 'parts')
if not last_seq and amount_of(reservation, 'seen') >= parts then
    return {'parts', text(parts)}
end
local used_before = amount_of(reservation, 'used:' .. part)
if used < used_before then
    return {'backward', text(used_before)}
end

local share = math.floor(amount_of(reservation, 'granted') / parts)
local paid_before = amount_of(reservation, 'paid:' .. part)
local paid = paid_before
if state == 'open' then
    paid = math.min(used, share)
elseif state == 'reaped' and not last_seq then
    paid, paid_before = share, share  -- the orphan's share was charged when it was reaped
end
local charge = paid - paid_before
local overdraft = math.max(0, used - paid) - math.max(0, used_before - paid_before)

redis.call('HINCRBY', account, 'reserved', text(-charge))
redis.call('HINCRBY', account, 'spent', text(charge))
redis.call('HINCRBY', reservation, 'held', text(-charge))
redis.call('HSET', reservation, 'seq:' .. part, text(seq), 'used:' .. part, text(used), 'paid:' .. part, text(paid),
    'rest:' .. part, rest and fence or '')
if not last_seq then
    redis.call('HINCRBY', reservation, 'seen', 1)
end
if overdraft > 0 then
    redis.call('HINCRBY', account, 'overdraft', text(overdraft))
    record(journal, keep_ms, 'overdraft', id, part, overdraft)
end
if final then
    redis.call('HSET', reservation, 'final:' .. part, '1')
    record(journal, keep_ms, 'settled', id, part, paid)
    local finals = redis.call('HINCRBY', reservation, 'finals', 1)
    if state == 'open' and finals == parts then
        close(reservation, account, open, member, 'settled', keep_ms)
    end
end
return grant()
