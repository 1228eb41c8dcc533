"""Backups of the source database: a copy taken while others write, and its way back.

A SQLite backup is a SQLite file, copied by SQLite itself inside one read transaction; a PostgreSQL backup is
what ``pg_dump`` writes.  Neither counts as made before it was read back.
"""

import os
import sqlite3
import time
from collections.abc import Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass
from pathlib import Path
from uuid import uuid4

from sqlalchemy import make_url

from vroom_features.addresses import ServiceAddress
from vroom_features.database import postgres_backup
from vroom_features.database.engine import connect, translated
from vroom_features.database.migrations import SCHEMA_VERSION
from vroom_features.errors import BackupError, DamagedDatabaseError

LOCK_TIMEOUT_S = 30.0
STATE_SQL = "SELECT schema_version, database_id, change_number FROM database_state"
NEW_IDENTITY_SQL = "UPDATE database_state SET database_id = '{id}', change_number = {change}"


@dataclass(frozen=True, slots=True)
class State:
    """Which database this is, as of which change."""

    schema_version: int
    database_id: str
    change_number: int


def back_up(url: str | ServiceAddress, to: Path) -> State:
    """Write a backup of a database that may be in use.

    Parameters
    ----------
    url : str or ServiceAddress
        As for ``SourceStore.open``.
    to : Path
        The file to make, for its owner's eyes only; it appears whole or not at all.

    Returns
    -------
    State
        What the backup holds.

    Raises
    ------
    BackupError
        If the file exists, or the copy is not sound.
    SourceStoreError
        If the database cannot be read.
    """
    if to.exists():
        raise BackupError(f"{to} exists already; give another name")
    address = ServiceAddress(url)
    source = sqlite_path(address)
    with translated(address), written_aside(to) as aside:
        if source is None:
            postgres_backup.dump(address, aside)
            state = State(*postgres_backup.state_of(aside))
        elif not source.is_file():
            raise BackupError(f"there is no database {source}")
        else:
            copy_to_one_file(source, aside)
            state = state_of(aside)
        publish(aside, to)
    return state


def restore(url: str | ServiceAddress, origin: Path, *, force: bool = False) -> State:
    """Put a backup in the place of a database.

    It comes in one transaction: whoever has the database open sees the old or the new.  The result counts as
    another database, so that the next materialization fills both stores anew.

    Parameters
    ----------
    url : str or ServiceAddress
        As for ``SourceStore.open``; there need not be a database yet.
    origin : Path
        What ``back_up`` made.
    force : bool
        Go on where the database has changes that the backup lacks, is another one, or is damaged; a damaged
        SQLite file is moved aside.

    Raises
    ------
    BackupError
        If the backup is not sound, or what is there would be lost.
    SourceStoreError
        If the database cannot be written.
    """
    if not origin.is_file():
        raise BackupError(f"there is no backup {origin}")
    identity = NEW_IDENTITY_SQL.format(id=uuid4().hex, change=time.time_ns() // 1_000_000)
    address = ServiceAddress(url)
    target = sqlite_path(address)
    with translated(address):
        if target is None:
            state = State(*postgres_backup.state_of(origin))
            if (found := postgres_backup.state_in(address)) is not None:
                _refuse_loss(State(*found), state, force=force)
            postgres_backup.load(address, origin, then=identity)
        else:
            state = state_of(origin)
            _restore_file(target, origin, state, identity, force=force)
        connect(address).dispose()  # upgrades the schema of an old backup
    return state


def sqlite_path(address: ServiceAddress) -> Path | None:
    """Return the file of a SQLite database, or None for another kind."""
    parsed = make_url(address.url)
    return Path(parsed.database or "") if parsed.get_backend_name() == "sqlite" else None


def state_of(path: Path) -> State:
    """Read a whole SQLite file, and return what it holds.

    Raises
    ------
    DamagedDatabaseError
        If it is not a sound database of ours.
    """
    try:
        with closing(open_database(path)) as connection:
            (verdict,) = connection.execute("PRAGMA integrity_check(1)").fetchone()
            if verdict != "ok":
                raise DamagedDatabaseError(path, verdict)
            if connection.execute("PRAGMA foreign_key_check").fetchone() is not None:
                raise DamagedDatabaseError(path, "bookings of vehicles that are not there")
            row = connection.execute(STATE_SQL).fetchone()
    except sqlite3.DatabaseError as exc:
        raise DamagedDatabaseError(path, str(exc)) from exc
    if row is None:
        raise DamagedDatabaseError(path, "its state is missing")
    if row[0] > SCHEMA_VERSION:
        raise BackupError(f"{path} has schema version {row[0]}, this program knows {SCHEMA_VERSION}")
    return State(*row)


def _refuse_loss(found: State, wanted: State, *, force: bool) -> None:
    """Raise where a restore would lose something, unless it is wanted."""
    if force:
        return
    if found.database_id != wanted.database_id:
        raise BackupError("the backup is of another database than the one that is there; --force replaces it")
    if found.change_number > wanted.change_number:
        lost = found.change_number - wanted.change_number
        raise BackupError(
            f"the database has {lost} changes that the backup lacks; --force gives them up for good"
        )


def _restore_file(target: Path, origin: Path, state: State, identity: str, *, force: bool) -> None:
    """Make the new content aside, then bring it in."""
    if target.exists():
        try:
            _refuse_loss(state_of(target), state, force=force)
        except DamagedDatabaseError as exc:
            if not force:
                raise BackupError(f"{exc}; stop what uses it, then --force moves it aside") from exc
            move_aside(target)
    with written_aside(target) as aside:
        copy_to_one_file(origin, aside)
        with closing(open_database(aside)) as connection:
            connection.execute(identity)
        state_of(aside)
        if target.exists():
            with closing(open_database(aside)) as source, closing(open_database(target)) as destination:
                copy_pages(source, destination)
        else:
            publish(aside, target)


def open_database(path: Path) -> sqlite3.Connection:
    """Open a file that exists."""
    if not path.is_file():
        raise DamagedDatabaseError(path, "there is no such file")
    return sqlite3.connect(path, timeout=LOCK_TIMEOUT_S, isolation_level=None)


def copy_pages(source: sqlite3.Connection, to: sqlite3.Connection) -> None:
    """Copy every page in one step, which holds one moment of the source and one transaction of the target."""
    deadline = time.monotonic() + LOCK_TIMEOUT_S

    def wait(_status: int, _remaining: int, _total: int) -> None:
        if time.monotonic() > deadline:
            raise sqlite3.OperationalError("database is locked")

    source.backup(to, progress=wait)


def copy_to_one_file(source: Path, to: Path) -> None:
    """Copy a database, whatever is in its journal included, to a file that needs no journal beside it."""
    with closing(open_database(source)) as connection, closing(open_database(to)) as copy:
        copy_pages(connection, copy)
        copy.execute("PRAGMA journal_mode=DELETE")


@contextmanager
def written_aside(path: Path) -> Iterator[Path]:
    """Give an empty file beside a path, its owner's alone; it is gone at the end unless it was renamed."""
    path.parent.mkdir(parents=True, exist_ok=True)
    aside = path.with_name(f".{path.name}.{uuid4().hex}.tmp")
    os.close(os.open(aside, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o600))
    try:
        yield aside
    finally:
        aside.unlink(missing_ok=True)


def publish(aside: Path, path: Path) -> None:
    """Bring a file to the disk, then to its name."""
    for name, flags in ((aside, os.O_RDWR), (path.parent, os.O_RDONLY)):
        descriptor = os.open(name, flags)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)
        if name is aside:
            aside.replace(path)


def move_aside(path: Path) -> None:
    """Give a damaged database and its journal names that nothing opens."""
    suffix = f".damaged-{time.time_ns()}"
    for name in (path, path.with_name(f"{path.name}-wal"), path.with_name(f"{path.name}-shm")):
        if name.exists():
            name.rename(name.with_name(name.name + suffix))
