"""The online store: the latest features of each new arrival, in Redis.

Vehicles are spread over ``NUM_BUCKETS`` hashes, so every command names keys of one slot and the store runs on
Redis Cluster as it does on one server.  A value begins with its row version; a write of an older version than
the stored one is left out, and a vehicle that left (deleted, or booked) leaves its row version behind for a
day, so that a write that was under way cannot bring it back.
"""

from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import chain
from typing import Any, Self, cast

import redis
from redis.exceptions import RedisClusterException

from vroom_features.addresses import ServiceAddress
from vroom_features.errors import OnlineStoreError
from vroom_features.online.redis_client import RedisClient, connect_redis
from vroom_features.online.rows import VIEW_ID, OnlineRow, decode, encode

NUM_BUCKETS = 256
_ROWS = tuple(f"vroom-forecast:{{{bucket:03}}}:rows" for bucket in range(NUM_BUCKETS))
_GONE = tuple(f"vroom-forecast:{{{bucket:03}}}:gone" for bucket in range(NUM_BUCKETS))
"""Keys of a bucket's rows and of its deletions; the braces put both in one slot of a cluster."""
CALL_TIMEOUT_S = 2.0
"""How long one call to Redis may take before the store counts as away."""
TOMBSTONE_TTL_S = 86_400
_ROWS_A_CALL = 500
_SYNCED = "vroom-forecast:synced"
_REDIS_ERRORS = (redis.RedisError, RedisClusterException, OSError)
LAST_AUDIT = "vroom-forecast:last-audit"

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
    """A change of a database, followed by rows of a view."""

    database_id: str
    change_number: int
    view: str = VIEW_ID


class OnlineStore:
    """New arrivals' features in Redis.

    Parameters
    ----------
    client : redis.Redis or ClusterClient
        Gives bytes (``decode_responses=False``).
    """

    def __init__(self, client: RedisClient) -> None:
        self.client = client
        self._put = client.register_script(_PUT)
        self._delete = client.register_script(_DELETE)
        self._replace = client.register_script(_REPLACE)

    @classmethod
    def connect(cls, url: str | ServiceAddress) -> Self:
        """Return a store at a URL; to one server nothing is sent before the first call.

        Parameters
        ----------
        url : str or ServiceAddress
            ``redis://``, ``rediss://`` or ``unix://``; ``redis+cluster://host:port`` for Redis Cluster.
        """
        timeouts = {"socket_timeout": CALL_TIMEOUT_S, "socket_connect_timeout": CALL_TIMEOUT_S}
        with translated():
            return cls(connect_redis(url, **timeouts))

    def get(self, vehicle_id: int) -> OnlineRow | None:
        """Return a vehicle's row, or None when the store has none.

        Raises
        ------
        OnlineStoreError
            If Redis does not answer, or holds something else in the row's place.
        """
        with translated():
            value = cast("bytes | None", self.client.hget(_ROWS[_bucket(vehicle_id)], str(vehicle_id)))
        return None if value is None else decode(vehicle_id, value)

    def get_many(self, vehicle_ids: Iterable[int]) -> dict[int, OnlineRow]:
        """Return the rows that the store has, by vehicle, in one round trip; errors as ``get``."""
        return {key: decode(key, value) for key, value in self.values(vehicle_ids).items()}

    def values(self, vehicle_ids: Iterable[int]) -> dict[int, bytes]:
        """Return the rows that the store has as they are stored, by vehicle, in one round trip."""
        parts: dict[int, list[int]] = defaultdict(list)
        for vehicle_id in vehicle_ids:
            parts[_bucket(vehicle_id)].append(vehicle_id)
        with translated():
            pipeline = self.client.pipeline(transaction=False)
            for bucket, ids in parts.items():
                pipeline.hmget(_ROWS[bucket], list(map(str, ids)))
            found = cast("list[list[bytes | None]]", pipeline.execute())
        pairs = zip(chain.from_iterable(parts.values()), chain.from_iterable(found), strict=True)
        return {vehicle_id: value for vehicle_id, value in pairs if value is not None}

    def put(self, rows: Iterable[OnlineRow]) -> int:
        """Write rows; one that is older than the stored row, or than the vehicle's deletion, is left out.

        Returns
        -------
        int
            How many were written.
        """
        parts: dict[int, list[str | int | bytes]] = defaultdict(list)
        for row in rows:
            parts[_bucket(row.vehicle_id)] += (row.vehicle_id, row.row_version, encode(row))
        return self._call(self._put, parts, width=3)

    def delete(self, vehicle_ids: Iterable[int], *, row_version: int) -> int:
        """Take vehicles out, unless the store has a newer version; an older write cannot bring them back.

        Parameters
        ----------
        vehicle_ids : iterable of int
            Those that were deleted or booked.
        row_version : int
            The change that did it, or any later one.

        Returns
        -------
        int
            How many were there.
        """
        parts: dict[int, list[str | int | bytes]] = defaultdict(list)
        for vehicle_id in vehicle_ids:
            parts[_bucket(vehicle_id)] += (vehicle_id, row_version)
        return self._call(self._delete, parts, width=2, first=(TOMBSTONE_TTL_S,))

    def replace(self, values: Iterable[tuple[int, bytes, bytes, OnlineRow | None]]) -> int:
        """Put rows in the place of damaged values, whatever version these claim.

        Parameters
        ----------
        values : iterable of tuple
            Bucket, field, the value that was found, and the row to write; None takes the field out.

        Returns
        -------
        int
            How many were replaced: one that changed since it was found is left alone.
        """
        parts: dict[int, list[str | int | bytes]] = defaultdict(list)
        for bucket, field, found, row in values:
            parts[bucket] += (field, found, b"" if row is None else encode(row))
        return self._call(self._replace, parts, width=3)

    def vehicle_ids(self) -> Iterator[int]:
        """Give the id of every row, bucket by bucket."""
        for bucket in range(NUM_BUCKETS):
            with translated():
                keys = cast("list[bytes]", self.client.hkeys(_ROWS[bucket]))
            yield from (int(key) for key in keys if key.isdigit())

    def bucket(self, number: int) -> dict[bytes, bytes]:
        """Return every field of one bucket with its value, as it is stored."""
        with translated():
            return cast("dict[bytes, bytes]", self.client.hgetall(_ROWS[number]))

    def count_rows(self) -> int:
        """Return how many rows there are."""
        with translated():
            pipeline = self.client.pipeline(transaction=False)
            for bucket in range(NUM_BUCKETS):
                pipeline.hlen(_ROWS[bucket])
            return sum(cast("list[int]", pipeline.execute()))

    def synced(self) -> Synced | None:
        """Return which change of which database the store last followed; None when it never did."""
        with translated():
            value = cast("bytes | None", self.client.get(_SYNCED))
        database_id, change, view = [*(value or b"").decode(errors="replace").split(":", 2), "", ""][:3]
        return Synced(database_id, int(change), view) if change.isascii() and change.isdigit() else None

    def mark_synced(self, synced: Synced) -> None:
        """Remember that every change up to this one is in the store."""
        with translated():
            self.client.set(_SYNCED, f"{synced.database_id}:{synced.change_number}:{synced.view}")

    def clear(self) -> None:
        """Forget everything, as before another database's rows come in."""
        with translated():
            self.client.delete(_SYNCED)
            self.client.delete(LAST_AUDIT)
            for bucket in range(NUM_BUCKETS):
                self.client.delete(_ROWS[bucket], _GONE[bucket])

    def drop_foreign_keys(self) -> None:
        """Delete what stands in the place of the store's keys and is of another type."""
        kinds = {**dict.fromkeys((*_ROWS, *_GONE), b"hash"), _SYNCED: b"string", LAST_AUDIT: b"string"}
        with translated():
            pipeline = self.client.pipeline(transaction=False)
            for key in kinds:
                pipeline.type(key)
            found = cast("list[bytes]", pipeline.execute())
            for (key, kind), other in zip(kinds.items(), found, strict=True):
                if other not in (kind, b"none"):
                    self.client.delete(key)

    def close(self) -> None:
        """Close the connections."""
        self.client.close()

    def _call(
        self,
        script: Any,  # redis-py's Script, generic over its client
        parts: Mapping[int, list[str | int | bytes]],
        *,
        width: int,
        first: tuple[int, ...] = (),
    ) -> int:
        """Run a script on each bucket, a bounded number of rows at a time, and add up what it says."""
        step, total = width * _ROWS_A_CALL, 0
        with translated():
            for bucket, arguments in parts.items():
                for start in range(0, len(arguments), step):
                    rows = arguments[start : start + step]
                    total += int(script(keys=[_ROWS[bucket], _GONE[bucket]], args=[*first, *rows]))
        return total


@contextmanager
def translated() -> Iterator[None]:
    """Turn Redis's errors into ours."""
    try:
        yield
    except _REDIS_ERRORS as exc:
        raise OnlineStoreError(f"Redis: {exc}") from exc


def _bucket(vehicle_id: int) -> int:
    """Return the hash that holds a vehicle."""
    return vehicle_id % NUM_BUCKETS
