-- A dead letter's message goes back to its stream, byte for byte, for the group that gave it up; what was replied to it
-- is taken back. Returns {'ok', new entry id}, or {reason} where nothing has happened: gone, cut, another (entry owns
-- the id).
-- KEYS stream, its dead letters, what was done with them; where there is a request id: claim, answers, final answer
-- ARGV letter id, who, now in ms, TTL in s
local stream, dead, done, claim, answers, decided = unpack(KEYS)
local found = redis.call('XRANGE', dead, ARGV[1], ARGV[1])
if #found == 0 then return {'gone'} end

local letter, raw, kept, before = {}, {}, 0, nil
for i = 1, #found[1][2], 2 do
  local name, value = found[1][2][i], found[1][2][i + 1]
  if string.sub(name, 1, 4) == 'raw:' then
    kept = kept + #name - 4 + #value
    if name == 'raw:replayed' then before = value
    else raw[#raw + 1], raw[#raw + 2] = string.sub(name, 5), value end
  else
    letter[name] = value
  end
end
if #raw == 0 or kept ~= tonumber(letter.size) then return {'cut'} end

local origin = before and string.match(before, '^%S+ %d+ (%d+%-%d+)$') or letter.id
local owner = claim and redis.call('GET', claim)
if owner and string.match(owner, '^%S+ %S+') ~= stream .. ' ' .. origin then return {'another'} end

raw[#raw + 1], raw[#raw + 2] = 'replayed', letter.group .. ' ' .. letter.attempts .. ' ' .. origin
local id = redis.call('XADD', stream, '*', unpack(raw))
if answers then
  for kind in string.gmatch(letter.told, '%S+') do redis.call('HDEL', answers, kind) end
  if redis.call('GET', decided) == letter.id then redis.call('DEL', decided) end
end
redis.call('XDEL', dead, ARGV[1])
redis.call('XADD', done, 'MAXLEN', '~', 10000, '*', 'what', 'replayed', 'letter', ARGV[1], 'stream', stream,
  'reason', letter.reason, 'as', id, 'by', ARGV[2], 'at_ms', ARGV[3])
redis.call('EXPIRE', done, ARGV[4])
return {'ok', id}
