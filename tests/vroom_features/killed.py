"""Work done in a process that is killed: by SIGKILL after its n-th step outside, or by the system in a write.

As SQLite tests itself: n = 1, 2, 3, ... until a run gets through.  Each process is forked from a server that
has imported everything, so a death costs a few hundredths of a second.
"""

import multiprocessing
import os
import resource
import signal
import sqlite3
import sys
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from multiprocessing.connection import Connection
from pathlib import Path
from types import FrameType

from tests.vroom_features.stores import NOW
from vroom_features.errors import VroomFeaturesError
from vroom_features.ingest import seed
from vroom_features.materialize import materialize
from vroom_features.stores import bulk
from vroom_features.stores.offline import OfflineStore
from vroom_features.stores.online import OnlineStore
from vroom_features.stores.source import SourceStore

STEPS = {"fsync", "mkdir", "open", "rename", "replace", "sendall", "unlink", "write"}
"""Built-in functions that reach beyond the process."""
BULK_STEPS = {"append", "batches", "bulk_transaction", "execute", "stage"}
"""What `bulk` does with the driver, which is not built-in."""

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


def dies_after_step(number: int, work: Callable[..., None], *arguments: object) -> str | None:
    """Do the work in a process that kills itself after a step; return which, or None if it got through."""
    code, said = _run(_until_step, number, work, arguments)
    if code == 0:
        return None
    assert code == -signal.SIGKILL
    return said


def dies_past_byte(size: int, work: Callable[..., None], *arguments: object) -> bool:
    """Do the work in a process that dies in the write that would make a file larger; say whether it did."""
    code, _ = _run(_until_byte, size, work, arguments)
    assert code in (0, -signal.SIGXFSZ)
    return code != 0


def fails_past_byte(size: int, work: Callable[..., None], *arguments: object) -> str | None:
    """Do the work where no file can grow larger; return the error, or None if it got through."""
    code, said = _run(_up_to_byte, size, work, arguments)
    assert code == 0
    return said


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


def _run(
    entry: Callable[..., None], limit: int, work: Callable[..., None], arguments: tuple[object, ...]
) -> tuple[int | None, str | None]:
    """Run in a new process; return its exit code and what it said before it ended."""
    ours, theirs = _forks.Pipe(duplex=False)
    process = _forks.Process(target=entry, args=(limit, theirs, work, arguments))
    process.start()
    theirs.close()
    process.join()
    try:
        return process.exitcode, ours.recv()
    except EOFError:
        return process.exitcode, None


def _until_step(
    number: int, tell: Connection, work: Callable[..., None], arguments: tuple[object, ...]
) -> None:
    left = number

    def count(frame: FrameType, event: str, function: object) -> None:
        nonlocal left
        name = getattr(function, "__name__", "") if event == "c_return" else frame.f_code.co_name
        in_bulk = event == "return" and frame.f_code.co_filename == bulk.__file__
        if (event == "c_return" and name in STEPS) or (in_bulk and name in BULK_STEPS):
            left -= 1
            if left == 0:
                sys.setprofile(None)
                tell.send(name)
                os.kill(os.getpid(), signal.SIGKILL)

    sys.setprofile(count)
    work(*arguments)
    sys.setprofile(None)


def _until_byte(size: int, _: Connection, work: Callable[..., None], arguments: tuple[object, ...]) -> None:
    signal.signal(signal.SIGXFSZ, signal.SIG_DFL)
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, size))
    work(*arguments)


def _up_to_byte(
    size: int, tell: Connection, work: Callable[..., None], arguments: tuple[object, ...]
) -> None:
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, size))  # Python ignores the signal: the write fails
    try:
        work(*arguments)
    except VroomFeaturesError as exc:
        tell.send(str(exc))
