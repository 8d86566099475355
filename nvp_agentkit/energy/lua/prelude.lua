-- Placed before every other function of the ledger.
-- Amounts are integer millijoules below 2^53, so a Lua number holds them exactly; they are written with %.0f
-- because tostring(1e15) is "1e+15".

local JOURNAL_ENTRIES = 1000

local function text(amount)
    if amount == 0 then
        return '0' -- %.0f of a negative zero is "-0", which HINCRBY refuses
    end
    return string.format('%.0f', amount)
end

local function amount_of(key, field)
    return tonumber(redis.call('HGET', key, field) or '0')
end

local function free_of(account)
    return amount_of(account, 'limit') - amount_of(account, 'spent') - amount_of(account, 'reserved')
end

local function keep(key, keep_ms)
    redis.call('PEXPIRE', key, keep_ms)
end

local function record(journal, keep_ms, what, reservation, part, amount)
    redis.call('XADD', journal, 'MAXLEN', '~', JOURNAL_ENTRIES, '*',
        'what', what, 'reservation', reservation, 'part', part, 'mj', text(amount))
    keep(journal, keep_ms)
end

-- Ends a reservation: nothing stays held, and what is left of it is a tombstone.
local function close(reservation, account, open, member, state, keep_ms)
    redis.call('HINCRBY', account, 'reserved', text(-amount_of(reservation, 'held')))
    redis.call('HSET', reservation, 'state', state, 'held', '0')
    redis.call('ZREM', open, member)
    keep(reservation, keep_ms)
end
