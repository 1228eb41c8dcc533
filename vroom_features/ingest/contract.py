"""The data contract of the two CSV files: what a column must hold, and what happens to rows that break it."""

import csv
import re
from collections import Counter
from dataclasses import astuple, dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, Self

import numpy as np
import numpy.typing as npt
import pandas as pd

from vroom_features.database.queries import BIGGEST_ID
from vroom_features.database.tables import EPOCH, MICROSECOND
from vroom_features.errors import DataContractError
from vroom_features.vehicle import COLUMNS, UI_VEHICLE_ID_START, RawColumn
from vroom_features.watch import FIRST_DAY, midnight

PROBLEMS_KEPT = 100_000
Mask = npt.NDArray[np.bool_]
Array = npt.NDArray[Any]
Kind = type[int] | type[float] | type[datetime]

_DATE = re.compile(r"\s*\d{4}-?\d\d-?\d\d(?:[T\s]|$)")


def read_cell(cell: str, kind: Kind) -> int | float | None:
    """Return the value of a cell; None if it is not of this kind.

    A ``datetime`` is of ISO 8601, in UTC unless it has a zone, and becomes microseconds since 1970.  White
    space around a value is ignored.

    >>> [read_cell(cell, int) for cell in ("12", " 7 ", "0x1F", "seven")]
    [12, 7, None, None]
    >>> read_cell("1970-01-01T02:00+01:00", datetime)
    3600000000
    """
    if not cell.isascii() or "_" in cell:  # Python takes digits of every script, and 1_000
        return None
    try:
        if kind is datetime:
            if not _DATE.match(cell):  # Python takes 1683021212345 as a date, a separator, and a time
                return None
            moment = datetime.fromisoformat(cell.strip())
            moment = moment.astimezone(UTC) if moment.tzinfo else moment.replace(tzinfo=UTC)
            return (moment - EPOCH) // MICROSECOND
        return float(cell) if kind is float else int(cell)
    except (ValueError, OverflowError):
        return None


@dataclass(frozen=True, slots=True)
class Column:
    """What a column must hold: its type, its range (of moments in microseconds) with both ends, and words."""

    name: str
    kind: Kind
    low: float
    high: float
    expected: str

    @classmethod
    def of(cls, column: RawColumn) -> Self:
        low = float(np.nextafter(column.low, np.inf)) if column.is_low_excluded else column.low
        article = "" if column.choices else "an " if column.is_whole else "a "
        return cls(column.name, column.kind, low, column.high, article + column.range_in_words)

    @property
    def type_code(self) -> str:
        """Type code of `array.array` and NumPy."""
        return "d" if self.kind is float else "q"

    def read(self, cell: str) -> int | float | None:
        """Return the value of a cell; None when it is not in the range."""
        value = read_cell(cell, self.kind)
        return value if value is not None and self.low <= value <= self.high else None

    def holds_all(self, values: Array) -> bool:
        return bool(((values >= self.low) & (values <= self.high)).all())


VEHICLE_COLUMNS = (
    Column("vehicle_id", int, 1, UI_VEHICLE_ID_START - 1, f"an integer, 1 to {UI_VEHICLE_ID_START - 1:,}"),
    *map(Column.of, COLUMNS.values()),
)


def reservation_columns(now: datetime | None = None) -> tuple[Column, ...]:
    """Return the columns of ``reservations.csv``: bookings are from 2000 on, to a day after ``now``."""
    first = midnight(FIRST_DAY)
    last = now + timedelta(days=1) if now else datetime.max.replace(tzinfo=UTC)
    expected = f"a date and time such as 2023-05-01 12:30:00, from {first:%Y-%m-%d} to {last:%Y-%m-%d %H:%M}"
    low, high = ((moment - EPOCH) // MICROSECOND for moment in (first, last))
    return (
        Column("vehicle_id", int, 1, BIGGEST_ID, "an integer, 1 or more"),
        Column("created_at", datetime, low, high, expected),
    )


@dataclass(frozen=True, slots=True)
class Problem:
    """A row that breaks the contract: its line in the file, and why."""

    line: int
    column: str
    value: str
    reason: str


@dataclass
class CheckedFile:
    """The rows of a file.

    The index of ``columns``, the good rows, is the line of each in the file.  ``problems`` says why the first
    ``PROBLEMS_KEPT`` of the ``num_bad`` bad rows are bad.  ``bad_ids`` has the ``vehicle_id`` of each bad row
    where it can be read; ``num_without_id`` counts the others.  ``notes`` say how the file was read, where it
    is not in the plain form.
    """

    columns: pd.DataFrame
    problems: list[Problem]
    num_bad: int
    bad_ids: Array
    num_without_id: int
    num_rows_in_file: int
    notes: list[str]

    def may_have_bad_rows(self, vehicle_ids: Array) -> Mask:
        """Return which vehicles a bad row may describe: all of them, if one has no id."""
        if self.num_without_id:
            return np.ones(len(vehicle_ids), bool)
        return np.isin(vehicle_ids, self.bad_ids)

    def reject(self, is_bad: "pd.Series[bool]", reason: str) -> None:
        """Turn good rows into bad ones, because of their ``vehicle_id``."""
        ids = self.columns.loc[is_bad, "vehicle_id"]
        self.problems += [
            Problem(line, "vehicle_id", str(vehicle_id), reason)
            for line, vehicle_id in zip(ids.index.tolist(), ids.tolist(), strict=True)
        ]
        self.num_bad += len(ids)
        self.leave_out(is_bad)

    def take_columns(self) -> pd.DataFrame:
        """Return the good rows and drop them here, for their memory."""
        columns, self.columns = self.columns, pd.DataFrame()
        return columns

    def leave_out(self, is_out: "pd.Series[bool]") -> None:
        """Drop good rows."""
        if is_out.any():
            self.columns = self.columns[~is_out]


def write_quarantine(path: Path, file: CheckedFile, folder: Path, max_bad_share: float) -> list[Path]:
    """Write the bad rows of a CSV to a list, and return its path; delete an old list when there are none.

    It is a DataContractError if they are more than ``max_bad_share`` of the file's rows.
    """
    target = folder / f"{path.name.removesuffix('.gz').removesuffix('.csv')}.rejected.csv"
    problems = sorted(file.problems, key=lambda problem: problem.line)
    try:
        if not problems:
            if target.is_file():
                target.unlink()
            return []
        folder.mkdir(parents=True, exist_ok=True)
        with target.open("w", newline="", encoding="utf-8") as list_file:
            writer = csv.writer(list_file)
            writer.writerow(["line", "column", "value", "reason"])
            writer.writerows(map(astuple, problems))
    except OSError as exc:
        raise DataContractError(
            f"{path}: the list of its {file.num_bad} bad rows cannot be written: {exc}."
            f" Nothing was taken; make {folder} a folder that can be written"
        ) from exc
    if file.num_bad > max_bad_share * file.num_rows_in_file:
        most = Counter((problem.column, problem.reason) for problem in problems)
        ((column, reason), number), *_ = most.most_common(1)
        first = next(each for each in problems if (each.column, each.reason) == (column, reason))
        raise DataContractError(
            f"{path}: {file.num_bad} of {file.num_rows_in_file} rows break the data contract, more than"
            f" {max_bad_share:.1%} (VROOM_MAX_BAD_SHARE); nothing was taken. {number:,} like line"
            f" {first.line}: {column} {first.value[:80]!r}: {reason}. All of them: {target}"
        )
    return [target]


def sort_out_unknown(file: CheckedFile, known_ids: list[Array], vehicles: CheckedFile) -> int:
    """Set aside bookings of unknown vehicles that a bad row may describe; reject those of the others.

    A bad row whose id can be read describes that vehicle.  One without an id may describe any vehicle, but
    only one: if the unknown vehicles are more than such rows, their bookings are rejected.  Returns how many
    are set aside.
    """
    ids = file.columns["vehicle_id"]
    is_unknown = ~ids.isin(np.concatenate(known_ids))
    is_excused = is_unknown & ids.isin(vehicles.bad_ids)
    if ids[is_unknown & ~is_excused].nunique() <= vehicles.num_without_id:
        is_excused = is_unknown
    file.leave_out(is_excused)
    file.reject(
        (is_unknown & ~is_excused)[~is_excused],
        "there is no such vehicle in vehicles.csv; is that file whole?",
    )
    return int(is_excused.sum())
