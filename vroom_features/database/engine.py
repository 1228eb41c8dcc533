"""Engines, transactions, locks and the schema, for SQLite and PostgreSQL."""

import re
import sqlite3
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any
from uuid import uuid4

from filelock import FileLock, Timeout
from sqlalchemy import (
    Connection,
    Engine,
    create_engine,
    event,
    insert,
    inspect,
    make_url,
    select,
    text,
    update,
)
from sqlalchemy.exc import OperationalError, SQLAlchemyError
from sqlalchemy.pool import NullPool
from sqlmodel import SQLModel
from tenacity import retry, retry_if_exception, stop_after_delay, wait_fixed

from vroom_features.addresses import ServiceAddress
from vroom_features.checks import check_database
from vroom_features.database.tables import SCHEMA_VERSION, TABLES
from vroom_features.errors import LockTimeoutError, SourceStoreError
from vroom_features.vehicle import UI_VEHICLE_ID_START

LOCK_TIMEOUT_S = 10.0
"""How long a transaction waits for another one."""

PROMOTION_TIMEOUT_S = 30.0
_SCHEMA_LOCK, _PROMOTION_LOCK = 0x76726F6F6D, 0x76726F6F6E  # numbers of advisory locks on PostgreSQL
_LOCK_NOT_AVAILABLE = "55P03"
ANOTHER_PROGRAM = "it holds tables of another program; name a database of its own in VROOM_DATABASE_URL"
HINTS = {
    "unable to open|File exists|No such file": "it must be a file, in a folder that this user may write to",
    "is not a database": "the file is something else; is the path in VROOM_DATABASE_URL right?",
    "malformed|I/O error": "the file is damaged or cut off; restore a backup (vroom_features restore)",
    "is locked": f"another program writes for more than {LOCK_TIMEOUT_S:g} s; wait for it or end it",
    "readonly": "this user may not write to the file or its folder",
    "is full": "free some space",
    "memory": "SQLite cannot read the file; check its rights and the free memory",
    "no such": ANOTHER_PROGRAM,
}
"""What to do about an error of a SQLite file, by a pattern of its text."""


def connect(address: ServiceAddress) -> Engine:
    """Return an engine of a database; parameters and errors as for ``SourceStore.open``."""
    try:
        check_database(address)
    except ValueError as exc:
        raise SourceStoreError(f"database {address}: {exc}") from exc
    with translated(address):
        engine = _engine(address)
        try:
            with writing(engine) as connection:
                _ensure_schema(connection)
        except BaseException:
            engine.dispose()
            raise
    return engine


@contextmanager
def translated(address: ServiceAddress) -> Iterator[None]:
    """Turn a driver's error into one that names the database and the problem."""
    try:
        yield
    except (SQLAlchemyError, sqlite3.Error, OSError) as exc:
        lines = str(getattr(exc, "orig", None) or exc).strip().splitlines()
        reason = lines[0] if lines else type(exc).__name__
        hints = HINTS.items() if address.url.startswith("sqlite") else ()
        hint = next((f"; {hint}" for pattern, hint in hints if re.search(pattern, reason)), "")
        raise SourceStoreError(f"database {address}: {reason}{hint}") from exc


@contextmanager
def reading(engine: Engine) -> Iterator[Connection]:
    """Begin a transaction whose queries all see one moment."""
    with engine.connect() as connection:
        if connection.dialect.name != "sqlite":  # whose transactions always do
            connection = connection.execution_options(isolation_level="REPEATABLE READ")
        with connection.begin():
            yield connection


@contextmanager
def writing(engine: Engine) -> Iterator[Connection]:
    """Begin a transaction that writes; on SQLite it has the write lock from the start."""
    with engine.connect().execution_options(vroom_writes=True) as connection, connection.begin():
        yield connection


def _engine(address: ServiceAddress) -> Engine:
    parsed = make_url(address.url)
    if parsed.get_backend_name() == "sqlite":
        Path(str(parsed.database)).parent.mkdir(parents=True, exist_ok=True)
        engine = create_engine(
            parsed.set(query={"timeout": str(LOCK_TIMEOUT_S), **parsed.query}),
            poolclass=NullPool,  # a restored backup is seen at once
        )
        event.listen(engine, "connect", _prepare_sqlite)
        event.listen(engine, "begin", _begin_sqlite)
        return engine
    timeouts = f"-c lock_timeout={int(LOCK_TIMEOUT_S * 1000)} -c timezone=UTC"
    return create_engine(
        parsed.set(drivername="postgresql+psycopg"),
        connect_args={"options": timeouts, "connect_timeout": int(LOCK_TIMEOUT_S)},
        pool_pre_ping=True,
    )


def _prepare_sqlite(connection: Any, _record: Any) -> None:  # the driver's own objects
    connection.isolation_level = None  # transactions begin in _begin_sqlite
    connection.execute("PRAGMA page_size=16384")
    if connection.execute("PRAGMA journal_mode").fetchone() != ("wal",):
        _switch_to_wal(connection)
    # SQLite's own knows ASCII alone, so that names would not be found by another case.
    connection.create_function(
        "lower", 1, lambda text: text.lower() if isinstance(text, str) else text, deterministic=True
    )
    for pragma in ("synchronous=FULL", "foreign_keys=ON"):
        connection.execute(f"PRAGMA {pragma}")


def _is_busy(exc: BaseException) -> bool:
    return isinstance(exc, sqlite3.OperationalError) and exc.sqlite_errorcode == sqlite3.SQLITE_BUSY


@retry(
    retry=retry_if_exception(_is_busy),
    wait=wait_fixed(0.02),
    stop=stop_after_delay(LOCK_TIMEOUT_S),
    reraise=True,
)
def _switch_to_wal(connection: sqlite3.Connection) -> None:
    """Let readers run during a write; SQLite refuses one of two that switch at once, without a wait."""
    connection.execute("PRAGMA journal_mode=WAL")


def _begin_sqlite(connection: Connection) -> None:
    """Take the write lock at the beginning of a transaction that will write: later it may be refused."""
    writes = connection.get_execution_options().get("vroom_writes", False)
    connection.exec_driver_sql("BEGIN IMMEDIATE" if writes else "BEGIN")


def _ensure_schema(connection: Connection) -> None:
    """Create or upgrade the schema, one process at a time; refuse one of a newer program."""
    state = TABLES["database_state"]
    if connection.dialect.name != "sqlite":
        connection.execute(text("SELECT pg_advisory_xact_lock(:number)"), {"number": _SCHEMA_LOCK})
    found, tables = None, set(inspect(connection).get_table_names())
    if state.name in tables:
        found = connection.execute(select(state.c.schema_version)).scalar()
    elif tables & TABLES.keys() or (tables and connection.dialect.name == "sqlite"):
        raise SourceStoreError(ANOTHER_PROGRAM)
    if found is None:
        _create_schema(connection)
    elif found > SCHEMA_VERSION:
        raise SourceStoreError(
            f"this program knows schema version {SCHEMA_VERSION}, the database has {found};"
            " use the newer program that made it, or restore a backup"
        )
    elif found < SCHEMA_VERSION:
        from vroom_features.database.migrations import upgrade  # noqa: PLC0415 - Alembic takes 0.14 s

        upgrade(connection, found)
        connection.execute(update(state).values(schema_version=SCHEMA_VERSION))


def _create_schema(connection: Connection) -> None:
    SQLModel.metadata.create_all(connection, tables=list(TABLES.values()))
    connection.execute(
        insert(TABLES["database_state"]).values(
            id=1,
            schema_version=SCHEMA_VERSION,
            database_id=uuid4().hex,
            seed_digest="",
            change_number=time.time_ns() // 1_000_000,  # see DatabaseState
        )
    )
    if connection.dialect.name == "sqlite":  # PostgreSQL has this in the column
        connection.execute(
            text("INSERT INTO sqlite_sequence (name, seq) VALUES (:name, :seq)"),
            {"name": "vehicles", "seq": UI_VEHICLE_ID_START - 1},
        )


@contextmanager
def promotion_lock(
    engine: Engine, address: ServiceAddress, *, timeout_s: float = PROMOTION_TIMEOUT_S
) -> Iterator[None]:
    """Let one process at a time change the champion; the lock ends with the process.

    It is a file next to a SQLite database; an advisory lock on PostgreSQL, which is lost with its connection.
    If another process holds it for so long, that is a LockTimeoutError.
    """
    busy = LockTimeoutError(f"another promotion or rollback is under way since {timeout_s:g} s; try again")
    with ExitStack() as held:
        with translated(address):
            if engine.dialect.name == "sqlite":
                path = f"{engine.url.database}.promotion-lock"
                try:
                    held.enter_context(FileLock(path, timeout=timeout_s))
                except Timeout as exc:
                    raise busy from exc
            else:
                connection = held.enter_context(engine.connect())
                connection.execution_options(isolation_level="AUTOCOMMIT")
                connection.detach()  # is closed at the end: in the pool it would keep the lock
                connection.execute(text(f"SET lock_timeout = {max(1, int(timeout_s * 1000))}"))
                try:
                    connection.execute(text("SELECT pg_advisory_lock(:number)"), {"number": _PROMOTION_LOCK})
                except OperationalError as exc:
                    if getattr(exc.orig, "sqlstate", None) != _LOCK_NOT_AVAILABLE:
                        raise
                    raise busy from exc
        yield
