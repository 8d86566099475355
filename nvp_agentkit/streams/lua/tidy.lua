-- Remove consumers that hold nothing: this one (it leaves) and those silent for `silent` ms. With something
-- pending a consumer stays, since XGROUP DELCONSUMER would drop its entries.
-- KEYS stream   ARGV group, consumer, silent
local consumers = redis.pcall('XINFO', 'CONSUMERS', KEYS[1], ARGV[1])
if consumers.err then return end
for _, flat in ipairs(consumers) do
  local info = {}
  for i = 1, #flat, 2 do info[flat[i]] = flat[i + 1] end
  if info.pending == 0 and (info.name == ARGV[2] or info.idle > tonumber(ARGV[3])) then
    redis.call('XGROUP', 'DELCONSUMER', KEYS[1], ARGV[1], info.name)
  end
end
