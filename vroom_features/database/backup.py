"""Backups of the source database: a copy taken while others write, and how it is restored.

A SQLite backup is a SQLite file, copied by SQLite itself inside one read transaction; a PostgreSQL backup is
what ``pg_dump`` writes.  Neither counts as made before it was read back.
"""

import os
import shutil
import sqlite3
import subprocess
import time
from collections.abc import Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from uuid import uuid4

import psycopg
from psycopg.conninfo import conninfo_to_dict, make_conninfo
from sqlalchemy import make_url, text

from vroom_features.addresses import ServiceAddress
from vroom_features.database.durable import replaced_whole
from vroom_features.database.engine import connect, translated
from vroom_features.database.tables import SCHEMA_VERSION
from vroom_features.errors import BackupError, DamagedDatabaseError, SourceStoreError

LOCK_TIMEOUT_S = 30.0
STATE_SQL = "SELECT schema_version, database_id, change_number FROM database_state"
NEW_IDENTITY_SQL = "UPDATE database_state SET database_id = '{id}', change_number = {change}"


@dataclass(frozen=True, slots=True)
class State:
    """Which database this is, as of which change."""

    schema_version: int
    database_id: str
    change_number: int


def back_up(url: str | ServiceAddress, to: Path | str) -> State:
    """Write a backup of a database that may be in use, and return what it holds.

    The file, which must not exist, is readable by its owner alone, and appears whole or not at all.
    """
    if (to := Path(to)).exists():
        raise BackupError(f"{to} exists already; give another name")
    address = ServiceAddress(url)
    source = sqlite_path(address)
    with translated(address), replaced_whole(to) as new:
        if source is None:
            owner = ("--no-owner", "--no-privileges")
            _run_postgres(address, "pg_dump", "--format=custom", *owner, "--file", str(new))
            state = _state_of_dump(new)
        elif not source.is_file():
            raise BackupError(f"there is no database {source}")
        else:
            copy_to_one_file(source, new)
            state = _state_of_file(new)
    return state


def restore(url: str | ServiceAddress, origin: Path | str, *, force: bool = False) -> State:
    """Replace a database by a backup.

    It is one transaction: a program that has the database open sees the old one or the new one.  The result
    counts as another database, so that the next materialization fills both stores again.  ``force`` goes on
    where the database has changes that the backup lacks, is another one, has the schema of a newer program,
    or is damaged; a damaged SQLite file is moved aside.
    """
    if not (origin := Path(origin)).is_file():
        raise BackupError(f"there is no backup {origin}")
    identity = NEW_IDENTITY_SQL.format(id=uuid4().hex, change=time.time_ns() // 1_000_000)
    address = ServiceAddress(url)
    target = sqlite_path(address)
    with translated(address):
        state = _state_of_dump(origin) if target is None else _state_of_file(origin)
        if state.schema_version > SCHEMA_VERSION:
            raise BackupError(f"{origin} {_newer(state)}; restore it with the program that made it")
        if target is None:
            if (found := _state_on_server(address)) is not None and not force:
                _refuse_loss(found, state)
            _restore_dump(address, origin, identity)
        else:
            _restore_file(target, origin, state, identity, force=force)
        engine = connect(address)  # upgrades the schema of an old backup
        with engine.connect() as connection:
            state = State(*connection.execute(text(STATE_SQL)).one())
        engine.dispose()
    return state


def sqlite_path(address: ServiceAddress) -> Path | None:
    """Return the file of a SQLite database, or None for another kind."""
    parsed = make_url(address.url)
    return Path(parsed.database or "") if parsed.get_backend_name() == "sqlite" else None


def _refuse_loss(found: State, wanted: State) -> None:
    if found.database_id != wanted.database_id:
        raise BackupError("the backup is of another database than the one that is there; --force replaces it")
    if found.schema_version > SCHEMA_VERSION:
        raise BackupError(f"the database {_newer(found)}; --force replaces it")
    if found.change_number > wanted.change_number:
        lost = found.change_number - wanted.change_number
        raise BackupError(f"the database has {lost} changes that the backup lacks; --force loses them")


def _newer(state: State) -> str:
    return f"has schema version {state.schema_version}, this program knows {SCHEMA_VERSION}"


# SQLite


def _state_of_file(path: Path) -> State:
    """Check a whole SQLite file, and return which database it is."""
    with checked_database(path) as connection:
        if connection.execute("PRAGMA foreign_key_check").fetchone() is not None:
            raise DamagedDatabaseError(path, "bookings of vehicles that are not there")
        row = connection.execute(STATE_SQL).fetchone()
    if row is None:
        raise DamagedDatabaseError(path, "its state is missing")
    return State(*row)


def _restore_file(target: Path, origin: Path, state: State, identity: str, *, force: bool) -> None:
    """Make the new content in a file of its own, then copy it in."""
    if target.exists():
        try:
            found = _state_of_file(target)
        except DamagedDatabaseError as exc:
            if not force:
                raise BackupError(f"{exc}; stop what uses it, then --force moves it aside") from exc
            move_aside(target)
        else:
            if not force:
                _refuse_loss(found, state)
    else:
        move_aside(target)  # its journal would be applied to the restored one
    target.parent.mkdir(parents=True, exist_ok=True)
    with TemporaryDirectory(dir=target.parent) as folder:
        prepared = Path(folder) / target.name
        copy_to_one_file(origin, prepared, sql=identity)
        _state_of_file(prepared)
        if target.exists():
            copy_database(prepared, target)
        else:
            prepared.rename(target)


def open_database(path: Path) -> sqlite3.Connection:
    """Open a file that exists."""
    if not path.is_file():
        raise DamagedDatabaseError(path, "there is no such file")
    return sqlite3.connect(path, timeout=LOCK_TIMEOUT_S, isolation_level=None)


@contextmanager
def checked_database(path: Path) -> Iterator[sqlite3.Connection]:
    """Open a file whose every page is sound; DamagedDatabaseError for any other."""
    try:
        with closing(open_database(path)) as connection:
            (verdict,) = connection.execute("PRAGMA integrity_check(1)").fetchone()
            if verdict != "ok":
                raise DamagedDatabaseError(path, verdict)
            yield connection
    except sqlite3.DatabaseError as exc:
        raise DamagedDatabaseError(path, str(exc)) from exc


def copy_database(source: Path, to: Path) -> None:
    """Copy every page in one step, which is one moment of the source and one transaction of the target."""
    deadline = time.monotonic() + LOCK_TIMEOUT_S

    def wait(_status: int, _remaining: int, _total: int) -> None:
        if time.monotonic() > deadline:
            raise sqlite3.OperationalError("database is locked")

    to.touch(0o600)
    with closing(open_database(source)) as connection, closing(open_database(to)) as copy:
        connection.backup(copy, progress=wait)


def copy_to_one_file(source: Path, to: Path, *, sql: str = "") -> None:
    """Copy a database with what is in its journal to a file that needs no journal, and change it there."""
    copy_database(source, to)
    with closing(open_database(to)) as copy:
        copy.executescript(f"PRAGMA journal_mode=DELETE; {sql}")


def move_aside(path: Path) -> None:
    """Rename a damaged database and its journal, as far as they are there."""
    suffix = f".damaged-{time.time_ns()}"
    for name in (path, path.with_name(f"{path.name}-wal"), path.with_name(f"{path.name}-shm")):
        if name.exists():
            name.rename(name.with_name(name.name + suffix))


# PostgreSQL, by its own programs


def _state_of_dump(dump_file: Path) -> State:
    """Read a whole dump, and return which database it is."""
    lines = iter(_run_postgres(None, "pg_restore", "--file", "-", str(dump_file)).splitlines())
    for line in lines:
        if line.startswith("COPY public.database_state ("):
            names = line[line.index("(") + 1 : line.index(")")].split(", ")
            row = dict(zip(names, next(lines).split("\t"), strict=True))
            return State(int(row["schema_version"]), row["database_id"], int(row["change_number"]))
    raise BackupError(f"{dump_file} is no dump of a source database")


def _state_on_server(address: ServiceAddress) -> State | None:
    """Return which database is there, or None where there is no schema yet."""
    try:
        with psycopg.connect(_conninfo(address)) as connection:
            if connection.execute("SELECT to_regclass('public.database_state')").fetchone() == (None,):
                return None
            row = connection.execute(STATE_SQL).fetchone()
    except psycopg.Error as exc:
        raise BackupError(f"database {address}: {str(exc).splitlines()[0]}") from exc
    return None if row is None else State(*row)


def _restore_dump(address: ServiceAddress, dump_file: Path, identity: str) -> None:
    """Replace a database by a dump, and give it a new identity, all in one transaction."""
    replacing = ("--clean", "--if-exists", "--no-owner", "--no-privileges", "--file", "-")
    script = _run_postgres(None, "pg_restore", *replacing, str(dump_file))
    # Every writer takes this lock first.
    begin = "DO $$ BEGIN LOCK TABLE public.database_state; EXCEPTION WHEN undefined_table THEN END $$;"
    whole = f"{begin}\n{script}\nSET search_path = public;\n{identity};\n"
    options = ("--quiet", "--no-psqlrc", "--single-transaction", "--set=ON_ERROR_STOP=1", "--file=-")
    _run_postgres(address, "psql", *options, stdin=whole)


def _conninfo(address: ServiceAddress) -> str:
    """Return quoted parameters for libpq, whose errors would repeat a URL that it cannot read."""
    parsed = make_url(address.url).set(drivername="postgresql+psycopg")
    _, parameters = parsed.get_dialect()().create_connect_args(parsed)
    try:
        return make_conninfo(**parameters)
    except psycopg.ProgrammingError as exc:
        raise SourceStoreError(f"database {address}: {exc}") from exc


def _run_postgres(
    address: ServiceAddress | None, name: str, *arguments: str, stdin: str | None = None
) -> str:
    """Run one of PostgreSQL's programs; the password is in its environment, which other users cannot list."""
    program = shutil.which(name)
    if program is None:
        raise BackupError(f"{name} is not installed; install PostgreSQL's client programs")
    environment = dict(os.environ)
    command = [program, *arguments]
    if address is not None:
        parameters = conninfo_to_dict(_conninfo(address))
        if (password := parameters.pop("password", None)) is not None:
            environment["PGPASSWORD"] = str(password)
        command.append(f"--dbname={make_conninfo('', **parameters)}")
    done = subprocess.run(  # noqa: S603 - found on the PATH, arguments of ours
        command, env=environment, input=stdin, capture_output=True, text=True, check=False
    )
    if done.returncode:
        reason = done.stderr.strip().splitlines()
        raise BackupError(f"{name}: {reason[0] if reason else f'exit code {done.returncode}'}")
    return done.stdout
