"""DataFrames in and out of the source database: by executemany on SQLite, by COPY on PostgreSQL."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np
import pandas as pd
import psycopg
from sqlalchemy import (
    Column,
    Connection,
    Float,
    Integer,
    MetaData,
    Select,
    Table,
)
from sqlalchemy.exc import DBAPIError
from sqlalchemy.types import TypeEngine

from vroom_features.database.tables import UtcDateTime

CHUNK_ROWS = 50_000


def read_frame(connection: Connection, query: Select[Any]) -> pd.DataFrame:
    """Return the rows of a query that returns no NULL."""
    kinds = np.dtype([(column.name, _kind(column.type)) for column in query.selected_columns])
    # Tuples of the driver, not Rows of SQLAlchemy, take a third less of materializing a large fleet.
    rows: Any = connection.execute(query).cursor
    found = np.fromiter(rows, kinds)
    return pd.DataFrame({name: found[name] for name in kinds.names or ()})


def _kind(kind: TypeEngine[Any]) -> str:
    """Return NumPy's name for a column's type; the only text is the source of a vehicle."""
    return "i8" if isinstance(kind, Integer) else "f8" if isinstance(kind, Float) else "U3"


def append(connection: Connection, table: Table, frame: pd.DataFrame) -> None:
    """Add rows to a table; columns are matched by name, and moments are microseconds since 1970."""
    for start in range(0, len(frame), CHUNK_ROWS):
        chunk = frame.iloc[start : start + CHUNK_ROWS]
        if connection.dialect.name == "sqlite":
            _insert(connection, table, chunk)
        else:
            _copy(connection, table, chunk)


@contextmanager
def staged(connection: Connection, frame: pd.DataFrame, like: Table) -> Iterator[Table]:
    """Yield a temporary table of these rows, with the column types of another table."""
    columns = [Column(name, like.c[name].type) for name in map(str, frame)]
    table = Table("staged", MetaData(), *columns, prefixes=["TEMPORARY"])
    table.create(connection)
    append(connection, table, frame)
    yield table
    table.drop(connection)


def _insert(connection: Connection, table: Table, rows: pd.DataFrame) -> None:
    marks = ", ".join("?" * rows.shape[1])
    statement = f"INSERT INTO {table.name} ({', '.join(rows.columns)}) VALUES ({marks})"  # noqa: S608 - our names
    driver: Any = connection.connection.driver_connection  # sqlite3's
    driver.executemany(statement, zip(*(rows[name].tolist() for name in rows), strict=True))


def _copy(connection: Connection, table: Table, rows: pd.DataFrame) -> None:
    moments = [
        column.name for column in table.c if isinstance(column.type, UtcDateTime) and column.name in rows
    ]
    rows = rows.assign(**{name: pd.to_datetime(rows[name], unit="us", utc=True) for name in moments})
    driver: Any = connection.connection.driver_connection  # psycopg's
    statement = f"COPY {table.name} ({', '.join(rows.columns)}) FROM STDIN (FORMAT csv)"
    try:
        with driver.cursor() as cursor, cursor.copy(statement) as copy:
            copy.write(rows.to_csv(header=False, index=False))
    except psycopg.Error as exc:
        raise DBAPIError(statement, None, exc) from exc
