"""Work done in a process whose files cannot grow beyond a size, and a lock held by another process.

Each process is forked from a server that has imported everything, so one costs a few hundredths of a second.
"""

import multiprocessing
import resource
import sqlite3
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from multiprocessing.connection import Connection
from pathlib import Path

from tests.vroom_features.stores import NOW
from vroom_features.database.vehicles import SourceStore
from vroom_features.errors import VroomFeaturesError
from vroom_features.ingest.seed import seed
from vroom_features.materialize import materialize
from vroom_features.offline.snapshots import OfflineStore
from vroom_features.online.store import OnlineStore

_forks = multiprocessing.get_context("forkserver")
_forks.set_forkserver_preload([__name__, "pandas", "pyarrow.parquet", "sqlalchemy.dialects.sqlite"])


def seed_files(url: str, folder: str) -> None:
    """Seed, as a command does."""
    source = SourceStore.open(url)
    seed(source, Path(folder), allow_removals=True)
    source.close()


def write_stores(url: str, root: str, redis_url: str, partition_vehicles: int) -> None:
    """Materialize, as a command does."""
    source = SourceStore.open(url)
    online = OnlineStore.connect(redis_url)
    materialize(source, OfflineStore(root), online, as_of=NOW, partition_vehicles=partition_vehicles)
    source.close()
    online.close()


def fails_past_byte(size: int, work: Callable[..., None], *arguments: object) -> str | None:
    """Do the work where no file can grow larger; return the error, or None if it got through."""
    ours, theirs = _forks.Pipe(duplex=False)
    process = _forks.Process(target=_up_to_byte, args=(size, theirs, work, arguments))
    process.start()
    theirs.close()
    process.join()
    assert process.exitcode == 0
    try:
        return str(ours.recv())
    except EOFError:
        return None


@contextmanager
def locked_for(seconds: float, database: Path) -> Iterator[None]:
    """Hold a SQLite file's write lock in another process: for so long, or until the block ends."""
    ours, theirs = _forks.Pipe()
    process = _forks.Process(target=_hold_lock, args=(seconds, theirs, str(database)))
    process.start()
    assert ours.recv() == "locked"
    try:
        yield
    finally:
        ours.send("enough")
        process.join()
        assert process.exitcode == 0


def _hold_lock(seconds: float, tell: Connection, database: str) -> None:
    with closing(sqlite3.connect(database, isolation_level=None)) as connection:
        connection.execute("BEGIN IMMEDIATE")
        tell.send("locked")
        tell.poll(seconds)
        connection.execute("ROLLBACK")


def _up_to_byte(
    size: int, tell: Connection, work: Callable[..., None], arguments: tuple[object, ...]
) -> None:
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, size))  # Python ignores the signal: the write fails
    try:
        work(*arguments)
    except VroomFeaturesError as exc:
        tell.send(str(exc))
