"""The data contract of the two CSV files: what a column must hold, and what happens to rows that break it."""

import csv
from dataclasses import astuple, dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, Self

import numpy as np
import numpy.typing as npt
import pandas as pd

from vroom_features.errors import DataContractError
from vroom_features.vehicle import COLUMNS, UI_VEHICLE_ID_START, RawColumn

PROBLEMS_KEPT = 100_000
Mask = npt.NDArray[np.bool_]
Array = npt.NDArray[Any]
Kind = type[int] | type[float] | type[datetime]

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_MICROSECOND = timedelta(microseconds=1)


def read_cell(cell: str, kind: Kind) -> int | float | None:
    """Return what a cell says; None when it is not of this kind.

    Parameters
    ----------
    cell : str
        A number, or a date and time of ISO 8601, which is UTC without a zone; white space around it counts
        for nothing.
    kind : type
        ``int``, ``float``, or ``datetime``, which becomes microseconds since 1970.

    Examples
    --------
    >>> [read_cell(cell, int) for cell in ("12", " 7 ", "0x1F", "seven")]
    [12, 7, None, None]
    >>> read_cell("1970-01-01T02:00+01:00", datetime)
    3600000000
    """
    if not cell.isascii() or "_" in cell:  # Python takes digits of every script, and 1_000
        return None
    try:
        if kind is datetime:
            moment = datetime.fromisoformat(cell.strip())
            moment = moment.astimezone(UTC) if moment.tzinfo else moment.replace(tzinfo=UTC)
            return (moment - _EPOCH) // _MICROSECOND
        return float(cell) if kind is float else int(cell)
    except (ValueError, OverflowError):
        return None


@dataclass(frozen=True, slots=True)
class Column:
    """What a column must hold: its type, and a range, both ends included; of moments as microseconds."""

    name: str
    kind: Kind
    low: float
    high: float

    @classmethod
    def of(cls, column: RawColumn) -> Self:
        """Return what a raw column of a vehicle must hold."""
        low = float(np.nextafter(column.low, np.inf)) if column.is_low_excluded else column.low
        return cls(column.name, column.kind, low, column.high)

    @property
    def expected(self) -> str:
        """What to say when a cell does not fit."""
        if self.kind is datetime:
            return "a date and time such as 2023-05-01 12:30:00"
        noun = "a number" if self.kind is float else "an integer"
        return f"{noun} from {self.low:g} to {self.high:g}"

    @property
    def type_code(self) -> str:
        """How `array.array` and NumPy call its values."""
        return "d" if self.kind is float else "q"

    def read(self, cell: str) -> int | float | None:
        """Return the value of a cell; None when the column must not hold it."""
        value = read_cell(cell, self.kind)
        return value if value is not None and self.low <= value <= self.high else None

    def holds_all(self, values: Array) -> bool:
        """Return whether every value is in the range."""
        return bool(((values >= self.low) & (values <= self.high)).all())


_YEARS_1_TO_9999 = [
    int(np.datetime64(moment, "us").astype(np.int64))
    for moment in ("0001-01-01", "9999-12-31 23:59:59.999999")
]
VEHICLE_COLUMNS = (
    Column("vehicle_id", int, 1, UI_VEHICLE_ID_START - 1),
    *map(Column.of, COLUMNS.values()),
)
RESERVATION_COLUMNS = (
    Column("vehicle_id", int, 1, 2**63 - 1),
    Column("created_at", datetime, *_YEARS_1_TO_9999),
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
    """What was found in a file.

    Parameters
    ----------
    columns : DataFrame
        The good rows; its index is the line of each in the file.
    problems : list of Problem
        Why the first ``PROBLEMS_KEPT`` of the ``num_bad`` bad rows are bad.
    bad_ids : array
        ``vehicle_id`` of each row that breaks the contract, where it can be read; ``num_without_id`` counts
        the rows where it cannot, or whose width is wrong.
    num_rows_in_file : int
        Good and bad rows.
    sha256 : str
        Of the content, unzipped.
    """

    columns: pd.DataFrame
    problems: list[Problem]
    num_bad: int
    bad_ids: Array
    num_without_id: int
    num_rows_in_file: int
    sha256: str

    def may_have_bad_rows(self, vehicle_ids: Array) -> Mask:
        """Say which vehicles a bad row may be of: all of them, where one is without an id."""
        if self.num_without_id:
            return np.ones(len(vehicle_ids), bool)
        return np.isin(vehicle_ids, self.bad_ids)

    def reject(self, is_bad: "pd.Series[bool]", reason: str) -> None:
        """Make good rows bad ones, for their ``vehicle_id``."""
        ids = self.columns.loc[is_bad, "vehicle_id"]
        self.problems += [
            Problem(line, "vehicle_id", str(vehicle_id), reason)
            for line, vehicle_id in zip(ids.index.tolist(), ids.tolist(), strict=True)
        ]
        self.num_bad += len(ids)
        self.leave_out(is_bad)

    def take_columns(self) -> pd.DataFrame:
        """Return the good rows, and keep them no longer."""
        columns, self.columns = self.columns, pd.DataFrame()
        return columns

    def leave_out(self, is_out: "pd.Series[bool]") -> None:
        """Take rows out of the good ones."""
        if is_out.any():
            self.columns = self.columns[~is_out]


def write_quarantine(path: Path, file: CheckedFile, folder: Path, max_bad_share: float) -> list[Path]:
    """Write the bad rows of a file with line, column and reason; an old list goes when there are none.

    Parameters
    ----------
    path : Path
        The CSV.
    file : CheckedFile
        What was found in it.
    folder : Path
        Where to write.
    max_bad_share : float
        More bad rows than this share of the file's rows are refused.

    Returns
    -------
    list of Path
        Where they are, if there are any.

    Raises
    ------
    DataContractError
        If they are too many, or the folder cannot be written.
    """
    target = folder / f"{path.name.removesuffix('.gz').removesuffix('.csv')}.rejected.csv"
    try:
        first = _write_rows(file, target)
    except OSError as exc:
        raise DataContractError(
            f"{path}: the list of its {file.num_bad} bad rows cannot be written: {exc}."
            f" Nothing was taken; make {folder} a folder that can be written"
        ) from exc
    if not file.num_bad:
        return []
    if file.num_bad > max_bad_share * file.num_rows_in_file:
        raise DataContractError(
            f"{path}: {file.num_bad} of {file.num_rows_in_file} rows break the data contract, more than"
            f" {max_bad_share:.1%}; nothing was taken. {first}. All of them: {target}"
        )
    return [target]


def _write_rows(file: CheckedFile, target: Path) -> str:
    """Write them and return the first as a sentence; remove an old list when there are none."""
    if not file.num_bad:
        if target.is_file():
            target.unlink()
        return ""
    target.parent.mkdir(parents=True, exist_ok=True)
    with target.open("w", newline="", encoding="utf-8") as list_file:
        writer = csv.writer(list_file)
        writer.writerow(["line", "column", "value", "reason"])
        problems = sorted(file.problems, key=lambda problem: problem.line)
        writer.writerows(map(astuple, problems))
    first = problems[0]
    return f"line {first.line}: {first.column} {first.value[:80]!r}: {first.reason}"


def sort_out_unknown(file: CheckedFile, known_ids: list[Array], vehicles: CheckedFile) -> int:
    """Set aside the bookings of unknown vehicles that a bad row may be about, and reject the others.

    A bad row whose id can be read is about that vehicle; one without an id may be about any, but only about
    one: bookings of more vehicles than there are such rows are not excused by them.

    Returns
    -------
    int
        How many are set aside.
    """
    ids = file.columns["vehicle_id"]
    is_unknown = ~ids.isin(np.concatenate(known_ids))
    is_excused = is_unknown & ids.isin(vehicles.bad_ids)
    if ids[is_unknown & ~is_excused].nunique() <= vehicles.num_without_id:
        is_excused = is_unknown
    file.leave_out(is_excused)
    file.reject((is_unknown & ~is_excused)[~is_excused], "there is no such vehicle")
    return int(is_excused.sum())
