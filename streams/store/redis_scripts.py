"""The Lua scripts of the Redis tables. Every key of a call carries one owner's hash tag: both run on Redis Cluster."""

CLAIM = """
-- KEYS: meta, outbox.  ARGV: nonce.  Returns: fence, whether a commit was ever stored, meta, outbox.
-- The nonce tells two claims apart that a failover gave the same number.
local claims = redis.call('HINCRBY', KEYS[1], 'claims', 1)
local fence = claims .. ':' .. ARGV[1]
redis.call('HSET', KEYS[1], 'fence', fence)
return {fence, redis.call('HEXISTS', KEYS[1], 'known'), redis.call('HGETALL', KEYS[1]), redis.call('HGETALL', KEYS[2])}
"""

COMMIT = """
-- KEYS: meta, outbox, lines, then one key for each table to drop, to remove from, to write to.
-- ARGV: fence, checkpoint, sequence of the last message ('' for none),
--       number of offsets, of outbox arguments, of drops, of removes, of writes;
--       topic, expected ('' for none) and new offset for each offset;
--       the number of arguments for each remove and each write; then those arguments: outbox, removes, writes.
-- Returns 1 (committed), 0 (fenced), -1 (mismatch).
local CHUNK = 4000  -- Lua's unpack is bounded by its stack; even, so that no pair is torn
local meta = KEYS[1]
if redis.call('HGET', meta, 'fence') ~= ARGV[1] then return 0 end
local offsets, outbox, drops = tonumber(ARGV[4]), tonumber(ARGV[5]), tonumber(ARGV[6])
local removes, writes = tonumber(ARGV[7]), tonumber(ARGV[8])
local at = 9
for i = 1, offsets do
  local stored = redis.call('HGET', meta, 'o:' .. ARGV[at])
  if (stored or '') ~= ARGV[at + 1] then return -1 end
  at = at + 3
end
at = 9
for i = 1, offsets do
  redis.call('HSET', meta, 'o:' .. ARGV[at], ARGV[at + 2])
  at = at + 3
end
redis.call('HSET', meta, 'known', '1')
if ARGV[3] ~= '' then
  redis.call('HSET', meta, 'sequence', ARGV[3])
  redis.call('HSET', KEYS[3], ARGV[1], ARGV[3])
end
if ARGV[2] ~= '' then redis.call('HSET', meta, 'checkpoint', ARGV[2]) end
local counts = at
at = at + removes + writes
local function apply(command, key, arguments)
  local last = at + arguments - 1
  while at <= last do
    local upto = math.min(at + CHUNK - 1, last)
    redis.call(command, key, unpack(ARGV, at, upto))
    at = upto + 1
  end
end
apply('HSET', KEYS[2], outbox)
for i = 1, drops do redis.call('UNLINK', KEYS[3 + i]) end
for i = 1, removes do apply('HDEL', KEYS[3 + drops + i], tonumber(ARGV[counts + i - 1])) end
for i = 1, writes do apply('HSET', KEYS[3 + drops + removes + i], tonumber(ARGV[counts + removes + i - 1])) end
return 1
"""
