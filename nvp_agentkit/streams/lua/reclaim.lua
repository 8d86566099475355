-- Take over up to `count` entries whose lease ran out. Returns {{id, deliveries, fields}...}; without fields
-- where the payload has been deleted under the group: those are acknowledged here and only reported.
-- XPENDING IDLE + XCLAIM and not XAUTOCLAIM: it says how often an entry was delivered, acts the same on Redis
-- 6.2 and later, and needs no cursor (from 0-0 XAUTOCLAIM never reaches the tail of a long list: docket#463).
-- KEYS stream   ARGV group, consumer, lease in ms, count
local stream, group, consumer, lease = KEYS[1], ARGV[1], ARGV[2], ARGV[3]
local taken = {}
for _, stale in ipairs(redis.call('XPENDING', stream, group, 'IDLE', lease, '-', '+', ARGV[4])) do
  local id = stale[1]
  local entry = redis.call('XCLAIM', stream, group, consumer, lease, id)[1]
  if entry then
    taken[#taken + 1] = {id, stale[4] + 1, entry[2]}
  else
    redis.call('XACK', stream, group, id)
    taken[#taken + 1] = {id, stale[4]}
  end
end
return taken
