-- Renew leases, but only of entries that are still mine: a plain XCLAIM from a worker that was stopped and
-- woke up would steal them back. Returns one 1 (renewed) or 0 (lost) per id.
-- KEYS stream   ARGV group, consumer, entry id...
local renewed = {}
for i = 3, #ARGV do
  local mine = redis.pcall('XPENDING', KEYS[1], ARGV[1], ARGV[i], ARGV[i], 1, ARGV[2])
  if mine.err or #mine == 0 then
    renewed[#renewed + 1] = 0
  else
    redis.call('XCLAIM', KEYS[1], ARGV[1], ARGV[2], 0, ARGV[i], 'JUSTID')
    renewed[#renewed + 1] = 1
  end
end
return renewed
