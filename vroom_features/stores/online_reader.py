"""Reading one row at a time, as a request does: a connection a thread, and nothing between it and Redis.

redis-py's way of a command (pool, retries, events, metrics) takes longer than the command itself.
"""

import threading
from typing import Any

import hiredis
import redis
from redis.connection import ConnectionPool


class RowReader:
    """Read fields of hashes.

    Parameters
    ----------
    pool : redis.ConnectionPool
        Whose address, credentials and time-outs are used; its connections are left alone.
    """

    def __init__(self, pool: ConnectionPool) -> None:
        self._pool = pool
        self._own = threading.local()

    def hget(self, key: str, field: str) -> bytes | None:
        """Return a field, or None when there is none.

        Raises
        ------
        redis.RedisError
            If Redis does not answer, also not on a new connection.
        """
        connection = getattr(self._own, "connection", None)
        if connection is None:
            connection = self._own.connection = self._pool.connection_class(**self._pool.connection_kwargs)
        try:
            return _ask(connection, key, field)
        except redis.ConnectionError:  # closed by the server meanwhile; a time-out is not tried again
            return _ask(connection, key, field)


def _ask(connection: Any, key: str, field: str) -> bytes | None:  # redis-py types connections loosely
    """Send and read; a connection that fails closes itself, and opens again when it is next used."""
    packed = hiredis.pack_command(("HGET", key, field))  # type: ignore[arg-type]  # its stub takes one argument
    connection.send_packed_command([packed], check_health=False)
    value: bytes | None = connection.read_response()
    return value
