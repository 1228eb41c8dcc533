"""What Redis does with a bucket in one step: KEYS are its rows and its deletions."""

PUT = """
local written = 0
for i = 1, #ARGV, 3 do
  local id, version = ARGV[i], tonumber(ARGV[i + 1])
  local now, gone = redis.call('HGET', KEYS[1], id), redis.call('HGET', KEYS[2], id)
  local newest = now and tonumber(string.match(now, '^(%d+) {')) or 0
  if version >= newest and (not gone or version > (tonumber(gone) or 0)) then
    redis.call('HSET', KEYS[1], id, ARGV[i + 2])
    if gone then redis.call('HDEL', KEYS[2], id) end
    written = written + 1
  end
end
return written
"""

DELETE = """
local removed = 0
for i = 2, #ARGV, 2 do
  local id, version = ARGV[i], tonumber(ARGV[i + 1])
  local now, gone = redis.call('HGET', KEYS[1], id), redis.call('HGET', KEYS[2], id)
  local newest = now and tonumber(string.match(now, '^(%d+) {')) or 0
  if version >= newest then
    removed = removed + redis.call('HDEL', KEYS[1], id)
    if not gone or version > (tonumber(gone) or 0) then redis.call('HSET', KEYS[2], id, ARGV[i + 1]) end
  end
end
redis.call('EXPIRE', KEYS[2], ARGV[1])
return removed
"""

REPLACE = """
local replaced = 0
for i = 1, #ARGV, 3 do
  if redis.call('HGET', KEYS[1], ARGV[i]) == ARGV[i + 1] then
    if ARGV[i + 2] == '' then
      redis.call('HDEL', KEYS[1], ARGV[i])
    else
      redis.call('HSET', KEYS[1], ARGV[i], ARGV[i + 2])
    end
    replaced = replaced + 1
  end
end
return replaced
"""
