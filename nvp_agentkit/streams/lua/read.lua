-- Take up to `room` new entries, one of each stream, in the order of their turns: in one round trip, however many streams
-- have nothing. Returns {how many streams were looked at, {{stream, {{id, fields}...}}...}}.
-- KEYS streams   ARGV group, consumer, room
local AT_ONCE = 1000
local group, consumer, room = ARGV[1], ARGV[2], tonumber(ARGV[3])
local found, looked_at = {}, 0
while looked_at < #KEYS and #found < room do
  local last = math.min(looked_at + math.min(room - #found, AT_ONCE), #KEYS)
  local asked = {}
  for i = looked_at + 1, last do asked[#asked + 1] = KEYS[i] end
  for _ = looked_at + 1, last do asked[#asked + 1] = '>' end
  local read = redis.pcall('XREADGROUP', 'GROUP', group, consumer, 'COUNT', 1, 'STREAMS', unpack(asked))
  if read and read.err then
    if #found == 0 then return read end
    break   -- what was taken before must not be lost from sight; the error comes again
  end
  for _, one in ipairs(read or {}) do found[#found + 1] = one end
  looked_at = last
end
return {looked_at, found}
