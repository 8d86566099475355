-- Take over up to `count` entries whose lease ran out. Returns {{id, deliveries, of them before this one in how many the
-- worker fell silent, fields}...}; without fields where the payload has been deleted under the group: those are acknowledged here and only reported.
-- XPENDING IDLE + XCLAIM and not XAUTOCLAIM: it says how often an entry was delivered, acts the same on Redis
-- 6.2 and later, and needs no cursor (from 0-0 XAUTOCLAIM never reaches the tail of a long list: docket#463).
-- An entry whose workers fell silent `suspect` times may be what kills them: it is taken alone, with nothing in hand. One
-- that was given back to be tried again says nothing of the kind.
-- KEYS stream, where it is kept how often an entry was given back (without its id)   ARGV group, consumer, lease in ms, count, suspect, entries taken before, entry ids that are left alone
local stream, group, consumer, lease, count = KEYS[1], ARGV[1], ARGV[2], ARGV[3], tonumber(ARGV[4])
local suspect, before = tonumber(ARGV[5]), tonumber(ARGV[6])
local left_alone = {}
for i = 7, #ARGV do left_alone[ARGV[i]] = true end

local stales, taken = {}, {}
for _, stale in ipairs(redis.call('XPENDING', stream, group, 'IDLE', lease, '-', '+', count + #ARGV - 6)) do
  if not left_alone[stale[1]] and #stales < count then stales[#stales + 1] = stale end
end
for _, stale in ipairs(stales) do
  local id = stale[1]
  local silent = math.max(0, stale[4] - tonumber(redis.call('GET', KEYS[2] .. id) or '0'))
  local alone = silent >= suspect
  if alone and before + #taken > 0 then break end
  local entry = redis.call('XCLAIM', stream, group, consumer, lease, id)[1]
  if entry then
    taken[#taken + 1] = {id, stale[4] + 1, silent, entry[2]}
  else
    redis.call('XACK', stream, group, id)
    taken[#taken + 1] = {id, stale[4], silent}
  end
  if alone then break end
end
return taken
