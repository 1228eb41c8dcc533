"""A lock that all processes of one source database share; it ends with the process that holds it."""

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager

from filelock import FileLock, Timeout
from sqlalchemy import text
from sqlalchemy.exc import OperationalError

from vroom_features.database.engine import translated
from vroom_features.database.vehicles import SourceStore
from vroom_features.errors import LockTimeoutError

LOCK_TIMEOUT_S = 30.0
_NUMBER = 0x76726F6F6E  # of the advisory lock on PostgreSQL
_LOCK_NOT_AVAILABLE = "55P03"


@contextmanager
def promotion_lock(source: SourceStore, *, timeout_s: float = LOCK_TIMEOUT_S) -> Iterator[None]:
    """Let one process change the champion: a file beside a SQLite database, an advisory lock on PostgreSQL.

    An advisory lock is lost when its connection dies, so what is done under it must bear that.

    Raises
    ------
    LockTimeoutError
        If another process held it all the time.
    """
    busy = LockTimeoutError(f"another promotion or rollback is under way since {timeout_s:g} s; try again")
    with ExitStack() as held:
        with translated(source.address):
            if source.engine.dialect.name == "sqlite":
                path = f"{source.engine.url.database}.promotion-lock"
                try:
                    held.enter_context(FileLock(path, timeout=timeout_s))
                except Timeout as exc:
                    raise busy from exc
            else:
                connection = held.enter_context(source.engine.connect())
                connection.execution_options(isolation_level="AUTOCOMMIT")
                connection.detach()  # closed at the end, not given back to the pool with its lock
                connection.execute(text(f"SET lock_timeout = {max(1, int(timeout_s * 1000))}"))
                try:
                    connection.execute(text("SELECT pg_advisory_lock(:number)"), {"number": _NUMBER})
                except OperationalError as exc:
                    if getattr(exc.orig, "sqlstate", None) != _LOCK_NOT_AVAILABLE:
                        raise
                    raise busy from exc
        yield
