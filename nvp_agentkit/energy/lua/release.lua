-- KEYS account reservation open journal   ARGV member reservation_id keep_ms
-- Gives back what is still held. Returns how much that was; 0 when there was nothing open.
local account, reservation, open, journal = KEYS[1], KEYS[2], KEYS[3], KEYS[4]
if redis.call('HGET', reservation, 'state') ~= 'open' then
    return {'ok', '0'}
end
local held = amount_of(reservation, 'held')
close(reservation, account, open, ARGV[1], 'released', ARGV[3])
record(journal, ARGV[3], 'released', ARGV[2], '', held)
return {'ok', text(held)}
