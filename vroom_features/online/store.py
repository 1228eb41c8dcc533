"""The online store: the latest features of each new arrival, in Redis.

Vehicles are spread over ``NUM_BUCKETS`` hashes, so every command names keys of one slot and the store runs on
Redis Cluster as on one server.  A value begins with its row version, and a write of an older version than
the stored one is ignored.  The row version of a vehicle that was taken out (deleted, or booked) is kept for a
day, so that a late write cannot bring it back.
"""

from collections import defaultdict
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import chain
from typing import Any, Self, cast

import redis
from redis.exceptions import RedisClusterException

from vroom_features.addresses import ServiceAddress
from vroom_features.errors import OnlineStoreError, StoreInUseError
from vroom_features.messages import PREFIX, Message
from vroom_features.online.redis_client import RedisClient, connect_redis, describe
from vroom_features.online.rows import VIEW_ID, OnlineRow, decode, encode

NUM_BUCKETS = 256
CALL_TIMEOUT_S = 2.0
"""How long one call to Redis may take."""
TOMBSTONE_TTL_S = 86_400
BEAT_TTL_S = 15
"""How long a web worker counts as running after its last beat."""
_ROWS_A_CALL = 500
_REDIS_ERRORS = (redis.RedisError, RedisClusterException, OSError)

# What Redis does with a bucket in one step: KEYS are its rows and its deletions.
_PUT = """
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

_DELETE = """
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

_REPLACE = """
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


@dataclass(frozen=True, slots=True)
class Synced:
    """The change of a database up to which the store has rows of a view."""

    database_id: str
    change_number: int
    view: str = VIEW_ID


class OnlineStore:
    """New arrivals' features in Redis, by a client that returns bytes; every key begins with the prefix."""

    def __init__(self, client: RedisClient, prefix: str = PREFIX) -> None:
        self.client = client
        self.prefix = prefix
        # Keys of a bucket's rows and of its deletions; the braces put both in one slot of a cluster.
        self._rows = tuple(f"{prefix}:{{{bucket:03}}}:rows" for bucket in range(NUM_BUCKETS))
        self._gone = tuple(f"{prefix}:{{{bucket:03}}}:gone" for bucket in range(NUM_BUCKETS))
        self._synced, self._owner = f"{prefix}:synced", f"{prefix}:database"
        self.last_audit = f"{prefix}:last-audit"
        self._put = client.register_script(_PUT)
        self._delete = client.register_script(_DELETE)
        self._replace = client.register_script(_REPLACE)

    @classmethod
    def connect(cls, url: str | ServiceAddress, prefix: str = PREFIX) -> Self:
        """Return the store at a URL; ``redis+cluster://host:port`` is a Redis Cluster."""
        timeouts = {"socket_timeout": CALL_TIMEOUT_S, "socket_connect_timeout": CALL_TIMEOUT_S}
        with translated():
            return cls(connect_redis(url, **timeouts), prefix)

    def get(self, vehicle_id: int) -> OnlineRow | None:
        """Return a vehicle's row, or None when the store has none; OnlineStoreError if it cannot be read."""
        with translated():
            value = cast("bytes | None", self.client.hget(self._rows[_bucket(vehicle_id)], str(vehicle_id)))
        return None if value is None else decode(vehicle_id, value)

    def get_many(self, vehicle_ids: Iterable[int]) -> dict[int, OnlineRow]:
        """Return the rows of these vehicles that the store has, in one round trip; errors as ``get``."""
        return {key: decode(key, value) for key, value in self.values(vehicle_ids).items()}

    def values(self, vehicle_ids: Iterable[int]) -> dict[int, bytes]:
        """Return the encoded rows of these vehicles that the store has, in one round trip."""
        parts: dict[int, list[int]] = defaultdict(list)
        for vehicle_id in vehicle_ids:
            parts[_bucket(vehicle_id)].append(vehicle_id)
        with translated():
            pipeline = self.client.pipeline(transaction=False)
            for bucket, ids in parts.items():
                pipeline.hmget(self._rows[bucket], list(map(str, ids)))
            found = cast("list[list[bytes | None]]", pipeline.execute())
        pairs = zip(chain.from_iterable(parts.values()), chain.from_iterable(found), strict=True)
        return {vehicle_id: value for vehicle_id, value in pairs if value is not None}

    def put(self, rows: Iterable[OnlineRow]) -> int:
        """Write rows and return how many; one older than the stored row or a deletion is ignored."""
        return self._call(
            self._put, ((_bucket(r.vehicle_id), (r.vehicle_id, r.row_version, encode(r))) for r in rows)
        )

    def delete(self, vehicle_ids: Iterable[int], *, row_version: int) -> int:
        """Take out vehicles that were deleted or booked, and return how many there were.

        ``row_version`` is the change that did it, or any later one: newer rows stay, and an older write
        cannot bring a vehicle back.
        """
        rows = ((_bucket(vehicle_id), (vehicle_id, row_version)) for vehicle_id in vehicle_ids)
        return self._call(self._delete, rows, TOMBSTONE_TTL_S)

    def replace(self, values: Iterable[tuple[int, bytes, bytes, OnlineRow | None]]) -> int:
        """Replace damaged values by rows, whatever version they have, and return how many.

        Each is a bucket, a field, the value that was found, and the row to write; None deletes the field.  A
        field that changed since is left as it is.
        """
        rows = ((bucket, (field, found, encode(row) if row else b"")) for bucket, field, found, row in values)
        return self._call(self._replace, rows)

    def bucket(self, number: int) -> dict[bytes, bytes]:
        """Return the encoded rows of one bucket by their fields."""
        with translated():
            return cast("dict[bytes, bytes]", self.client.hgetall(self._rows[number]))

    def count_rows(self) -> int:
        with translated():
            pipeline = self.client.pipeline(transaction=False)
            for bucket in range(NUM_BUCKETS):
                pipeline.hlen(self._rows[bucket])
            return sum(cast("list[int]", pipeline.execute()))

    def refuse_another(self, database_id: str, *, claim: bool = False) -> None:
        """Raise StoreInUseError if web workers of another database use the store, else ``claim`` it."""
        with translated():
            owner = cast("bytes | None", self.client.get(self._owner))
            if owner in {None, database_id.encode()}:
                if claim:
                    self.client.set(self._owner, database_id, ex=BEAT_TTL_S)
                return
        raise StoreInUseError(
            "web workers of another database use this Redis under the same VROOM_REDIS_PREFIX;"
            " give each deployment a prefix of its own"
        )

    def synced(self) -> Synced | None:
        """Return the last change in the store; None when there is none."""
        with translated():
            value = cast("bytes | None", self.client.get(self._synced))
        database_id, change, view = [*(value or b"").decode(errors="replace").split(":", 2), "", ""][:3]
        return Synced(database_id, int(change), view) if change.isascii() and change.isdigit() else None

    def mark_synced(self, synced: Synced) -> None:
        """Record that every change up to this one is in the store."""
        with translated():
            self.client.set(self._synced, f"{synced.database_id}:{synced.change_number}:{synced.view}")

    def clear(self) -> None:
        """Delete everything."""
        with translated():
            self.client.delete(self._synced)
            self.client.delete(self.last_audit)
            for bucket in range(NUM_BUCKETS):
                self.client.delete(self._rows[bucket], self._gone[bucket])

    def drop_foreign_keys(self) -> None:
        """Delete keys of the store's names that are of another type."""
        kinds = dict.fromkeys((*self._rows, *self._gone), b"hash")
        kinds |= {self._synced: b"string", self.last_audit: b"string"}
        with translated():
            pipeline = self.client.pipeline(transaction=False)
            for key in kinds:
                pipeline.type(key)
            found = cast("list[bytes]", pipeline.execute())
            for (key, kind), other in zip(kinds.items(), found, strict=True):
                if other not in (kind, b"none"):
                    self.client.delete(key)

    def publish(self, message: Message) -> int:
        """Send a message to this deployment's programs, and return how many listen on this node."""
        with translated():
            return int(self.client.publish(message.channel_of(self.prefix), message.encode()))

    def close(self) -> None:
        self.client.close()

    def _call(
        self,
        script: Any,  # redis-py's Script, generic over its client
        rows: Iterable[tuple[int, tuple[int | bytes, ...]]],
        *first: int,
    ) -> int:
        """Run a script on the rows of each bucket, and add up its results."""
        parts: dict[int, list[tuple[int | bytes, ...]]] = defaultdict(list)
        for bucket, arguments in rows:
            parts[bucket].append(arguments)
        total = 0
        with translated():
            for bucket, lists in parts.items():
                for start in range(0, len(lists), _ROWS_A_CALL):
                    arguments = tuple(chain.from_iterable(lists[start : start + _ROWS_A_CALL]))
                    total += int(
                        script(keys=[self._rows[bucket], self._gone[bucket]], args=[*first, *arguments])
                    )
        return total


@contextmanager
def translated() -> Iterator[None]:
    """Turn Redis's errors into ours."""
    try:
        yield
    except _REDIS_ERRORS as exc:
        raise OnlineStoreError(f"Redis: {describe(exc)}") from exc


def _bucket(vehicle_id: int) -> int:
    return vehicle_id % NUM_BUCKETS
