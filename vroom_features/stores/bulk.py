"""Whole columns in and out of the source database, through ADBC: no row becomes a Python object on the way.

The low-level driver is used, for its DB-API layer imports pandas, which costs more than a small fleet's work.
"""

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

import adbc_driver_manager as adbc
import adbc_driver_postgresql
import adbc_driver_sqlite
import pyarrow as pa

from vroom_features.addresses import ServiceAddress, libpq_conninfo
from vroom_features.errors import SourceStoreError
from vroom_features.migrations import SCHEMA_VERSION
from vroom_features.stores import gate

LOCK_TIMEOUT_S = 10
_BATCH_ROWS = 65_536


class BulkConnection:
    """One transaction on the source database that reads and writes Arrow.

    Parameters
    ----------
    connection : adbc_driver_manager.AdbcConnection
        With autocommit off.
    address : ServiceAddress
        Where the database is.
    is_sqlite : bool
        Else it is PostgreSQL.
    """

    def __init__(self, connection: adbc.AdbcConnection, address: ServiceAddress, *, is_sqlite: bool) -> None:
        self._connection = connection
        self.address = address
        self.is_sqlite = is_sqlite

    def batches(self, sql: str) -> Iterator[pa.RecordBatch]:
        """Run a query and give its rows, a batch at a time."""
        with adbc.AdbcStatement(self._connection) as statement:
            if self.is_sqlite:
                statement.set_options(**{"adbc.sqlite.query.batch_rows": str(_BATCH_ROWS)})
            statement.set_sql_query(sql)
            stream, _ = statement.execute_query()
            with pa.RecordBatchReader.from_stream(stream) as reader:
                yield from reader

    def table(self, sql: str, schema: pa.Schema) -> pa.Table:
        """Run a query and return its rows, cast to a schema."""
        batches = [batch for batch in self.batches(sql) if batch.num_rows]
        if not batches:  # a driver that saw no row does not know the types
            return pa.Table.from_batches([], schema)
        return pa.Table.from_batches(batches).cast(schema)

    def microseconds(self, moment: str) -> str:
        """Return SQL for a moment as microseconds since 1970, which is how SQLite holds it."""
        return moment if self.is_sqlite else f"CAST(EXTRACT(EPOCH FROM {moment}) * 1000000 AS BIGINT)"

    def scalar(self, sql: str) -> int | str | None:
        """Return the one value of a query's one row."""
        for batch in self.batches(sql):
            if batch.num_rows:
                value: int | str | None = batch.column(0)[0].as_py()
                return value
        return None

    def execute(self, sql: str) -> None:
        """Run a statement that returns no rows."""
        with adbc.AdbcStatement(self._connection) as statement:
            statement.set_sql_query(sql)
            statement.execute_update()

    def append(self, table: str, rows: pa.Table) -> None:
        """Add rows to a table; columns are matched by name."""
        if not rows.num_rows:
            return
        with adbc.AdbcStatement(self._connection) as statement:
            statement.set_options(
                **{"adbc.ingest.target_table": table, "adbc.ingest.mode": "adbc.ingest.mode.append"}
            )
            statement.bind_stream(rows.to_reader(_BATCH_ROWS))
            statement.execute_update()

    def stage(self, table: str, rows: pa.Table) -> None:
        """Put rows in a temporary table, for a statement that needs many values."""
        with adbc.AdbcStatement(self._connection) as statement:
            statement.set_options(
                **{
                    "adbc.ingest.target_table": table,
                    "adbc.ingest.mode": "adbc.ingest.mode.create",
                    "adbc.ingest.temporary": "true",
                }
            )
            statement.bind_stream(rows.to_reader(_BATCH_ROWS))
            statement.execute_update()


@contextmanager
def bulk_transaction(url: str | ServiceAddress, *, writes: bool = False) -> Iterator[BulkConnection]:
    """Open one transaction: all reads see one moment, all writes come together or not at all.

    Parameters
    ----------
    url : str or ServiceAddress
        As for ``SourceStore.open``; the database must have its schema.
    writes : bool
        Take the write lock at once, waiting for another writer.

    Raises
    ------
    SourceStoreError
        If the database cannot be opened, read or written.
    """
    address = ServiceAddress(url)
    is_sqlite = address.url.startswith("sqlite")
    path = Path(address.url.partition("///")[2]).resolve() if is_sqlite else Path()
    if is_sqlite and not path.is_file():
        raise SourceStoreError(f"there is no database {path}; seed it first")
    with ExitStack() as stack:
        try:
            if is_sqlite:
                gate.enter(path, "bulk", timeout_s=LOCK_TIMEOUT_S)
                stack.callback(gate.leave, path, "bulk")
            connection = _connect(stack, address, path if is_sqlite else None)
            bulk = BulkConnection(connection, address, is_sqlite=is_sqlite)
            if not is_sqlite and not writes:
                bulk.execute("SET TRANSACTION ISOLATION LEVEL REPEATABLE READ")
            if writes:  # the state's one row is the lock that every writer takes first
                bulk.execute("UPDATE database_state SET change_number = change_number")
            _check_schema(bulk)
            try:
                yield bulk
            except BaseException:
                connection.rollback()
                raise
            if writes:
                connection.commit()
            else:
                connection.rollback()
        except (adbc.Error, TimeoutError) as exc:
            raise SourceStoreError(f"database {address}: {exc}") from exc


def _check_schema(bulk: BulkConnection) -> None:
    """Refuse a schema that this program does not know."""
    found = bulk.scalar("SELECT schema_version FROM database_state")
    if found != SCHEMA_VERSION:
        raise SourceStoreError(
            f"expected schema version {SCHEMA_VERSION}, the database has {found}; an older one is brought up"
            " to date by python -m vroom_features upgrade, a newer one needs a newer program"
        )


def _connect(stack: ExitStack, address: ServiceAddress, path: Path | None) -> adbc.AdbcConnection:
    """Connect, with autocommit off; a path is a SQLite file's."""
    is_sqlite = path is not None
    if is_sqlite:
        driver = adbc_driver_sqlite.connect(str(path))
    else:
        driver = adbc_driver_postgresql.connect(libpq_conninfo(address))
    database = stack.enter_context(driver)
    connection: adbc.AdbcConnection = stack.enter_context(adbc.AdbcConnection(database))
    bulk = BulkConnection(connection, address, is_sqlite=is_sqlite)
    if is_sqlite:
        bulk.execute(f"PRAGMA busy_timeout={LOCK_TIMEOUT_S * 1000}")
        bulk.execute("PRAGMA synchronous=FULL")
    else:
        bulk.execute(f"SET lock_timeout = '{LOCK_TIMEOUT_S}s'")
        bulk.execute("SET timezone = 'UTC'")
    connection.set_autocommit(False)
    return connection
