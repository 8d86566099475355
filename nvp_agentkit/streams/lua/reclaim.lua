-- Take over up to `room` entries whose lease ran out, the streams taking turns, each with its share. Returns {how many
-- streams have had their turn, {{place of the stream, id, deliveries, before this one in how many of them the worker fell
-- silent, fields}...}}; without fields where the payload has been deleted under the group: those are acknowledged here and
-- only reported.
-- XPENDING IDLE + XCLAIM and not XAUTOCLAIM: it says how often an entry was delivered, acts the same on Redis
-- 6.2 and later, and needs no cursor (from 0-0 XAUTOCLAIM never reaches the tail of a long list: docket#463).
-- An entry whose workers fell silent `suspect` times may be what kills them: it is taken alone. One that was given back
-- to be tried again says nothing of the kind. A stream passed over because such an entry came beside others has not had its
-- turn: the next sweep begins with it.
-- KEYS of each stream itself and where it is kept how often an entry was given back (without its id)
-- ARGV group, consumer, lease in ms, room, suspect, then of each entry that is left alone the place of its stream and its id
local group, consumer, lease, room, suspect = ARGV[1], ARGV[2], ARGV[3], tonumber(ARGV[4]), tonumber(ARGV[5])
local left_alone, beside = {}, {}
for i = 6, #ARGV, 2 do
  local place = tonumber(ARGV[i])
  left_alone[place .. ' ' .. ARGV[i + 1]] = true
  beside[place] = (beside[place] or 0) + 1
end

local function stale(place, count)
  local found = {}
  for _, one in ipairs(redis.call('XPENDING', KEYS[2 * place - 1], group, 'IDLE', lease, '-', '+',
                                  count + (beside[place] or 0))) do
    if #found < count and not left_alone[place .. ' ' .. one[1]] then found[#found + 1] = one end
  end
  return found
end

local due = {}
for place = 1, #KEYS / 2 do
  if #stale(place, 1) > 0 then due[#due + 1] = place end
end

local taken, share = {}, math.max(1, math.floor(room / #due))
local had_turn, passed_over = #KEYS / 2, nil
for _, place in ipairs(due) do
  local stream, given_back = KEYS[2 * place - 1], KEYS[2 * place]
  for _, one in ipairs(stale(place, math.min(share, room - #taken))) do
    local id, deliveries = one[1], one[4]
    local silent = math.max(0, deliveries - tonumber(redis.call('GET', given_back .. id) or '0'))
    local alone = silent >= suspect
    if alone and #taken > 0 then
      passed_over = passed_over or place
      break
    end
    local entry = redis.call('XCLAIM', stream, group, consumer, lease, id)[1]
    if entry then
      taken[#taken + 1] = {place, id, deliveries + 1, silent, entry[2]}
    else
      redis.call('XACK', stream, group, id)
      taken[#taken + 1] = {place, id, deliveries, silent}
    end
    if alone then return {place, taken} end
  end
  if #taken >= room then
    had_turn = place
    break
  end
end
return {passed_over and passed_over - 1 or had_turn, taken}
