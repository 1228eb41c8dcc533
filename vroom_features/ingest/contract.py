"""The data contract of the two CSV files, checked as they are read.

Arrow reads a block of lines at once.  Where it cannot, or a value is out of range, halves of the block are
tried, and what remains is read row by row.  A cell that does not fit costs its row and no other.
"""

import csv
import io
from array import array
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd
import pyarrow as pa
from pyarrow import csv as arrow_csv

from vroom_features.errors import DataContractError
from vroom_features.ingest.cells import Array, Column, Kind
from vroom_features.ingest.csv_files import ContentReader, opened
from vroom_features.vehicle import COLUMNS, UI_VEHICLE_ID_START

Mask = npt.NDArray[np.bool_]

BLOCK_CHARS = 1 << 20
ROW_BY_ROW_LINES = 1024
PROBLEMS_KEPT = 100_000
_ARROW_TYPES: dict[Kind, pa.DataType] = {int: pa.int64(), float: pa.float64(), datetime: pa.timestamp("us")}
_ARROW_TYPES_ZONED = _ARROW_TYPES | {datetime: pa.timestamp("us", "UTC")}


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


def check_file(
    path: Path, columns: Sequence[Column], *, progress: Callable[[int], None] | None = None
) -> CheckedFile:
    """Read a file and hold it to the contract.

    Parameters
    ----------
    path : Path
    columns : sequence of Column
        Those that must be there, ``vehicle_id`` among them, in any order; others are left out.
    progress : callable, optional
        Called with the number of bytes just read.

    Raises
    ------
    DataContractError
        If it is no CSV with these columns, or a row of it goes over more than one line.
    """
    with opened(path) as file:
        content = ContentReader(file)
        text = content.lines()
        line, header = _read_header(path, text, columns)
        rows = _Rows(path, columns, header)
        num_told = 0
        while lines := text.readlines(BLOCK_CHARS):
            rows.add(line + 1, lines)
            line += len(lines)
            if progress is not None:
                progress(content.num_bytes - num_told)
                num_told = content.num_bytes
    return rows.checked(content.sha256.hexdigest())


def _read_header(path: Path, text: io.TextIOWrapper, columns: Sequence[Column]) -> tuple[int, list[str]]:
    """Return the first line that is not blank, and its number; raise unless it names every column once."""
    expected = [column.name for column in columns]
    line, header = next(
        ((n, row) for n, line in enumerate(text, 1) if (row := _split(path, n, line))), (0, [])
    )
    if not header:
        raise DataContractError(f"{path} is empty; expected a header with {expected}")
    if missing := [name for name in expected if name not in header]:
        raise DataContractError(f"{path}: columns {missing} are missing; got {[c[:40] for c in header[:40]]}")
    if twice := [name for name in expected if header.count(name) > 1]:
        raise DataContractError(f"{path}: columns {twice} stand in the header more than once")
    return line, header


def _split(path: Path, number: int, line: str) -> list[str]:
    """Return the cells of a line, none when it is blank; raise when a quoted cell goes on in the next."""
    if line.isspace():
        return []
    try:
        (row,) = csv.reader([line])
    except csv.Error as exc:  # a cell longer than any number or moment is
        raise DataContractError(f"{path}, line {number}: {exc}") from exc
    if row[-1].endswith(("\n", "\r")):
        raise DataContractError(
            f"{path}, line {number}: a quoted cell goes on in the next line and takes in the rows that"
            " follow; close the quote, and write each row on one line"
        )
    return row


class _Rows:
    """The rows of a file, the good ones in columns that grow in place: to join parts takes twice the room."""

    def __init__(self, path: Path, columns: Sequence[Column], header: list[str]) -> None:
        self._path = path
        self._header = header
        self._columns = {column: header.index(column.name) for column in columns}
        self._lines: list[pd.Index] = []
        self._values: dict[str, array[Any]] = {column.name: array(column.type_code) for column in columns}
        self._problems: list[Problem] = []
        self._num_bad = 0
        self._bad_ids = array("q")
        types = [{c.name: types[c.kind] for c in columns} for types in (_ARROW_TYPES, _ARROW_TYPES_ZONED)]
        self._types = types if types[0] != types[1] else types[:1]

    def checked(self, sha256: str) -> CheckedFile:
        """Return what was found, when all lines are added."""
        values = {name: np.asarray(column) for name, column in self._values.items()}
        lines = pd.RangeIndex(0).append(self._lines)
        return CheckedFile(
            columns=pd.DataFrame(values, lines, copy=False),
            problems=self._problems,
            num_bad=self._num_bad,
            bad_ids=np.asarray(self._bad_ids),
            num_without_id=self._num_bad - len(self._bad_ids),
            num_rows_in_file=self._num_bad + len(lines),
            sha256=sha256,
        )

    def add(self, first: int, lines: list[str]) -> None:
        """Read lines, the first of which has this number."""
        if self._add_at_once(first, lines):
            return
        if len(lines) <= ROW_BY_ROW_LINES:
            self._add_row_by_row(first, lines)
            return
        middle = len(lines) // 2
        self.add(first, lines[:middle])
        self.add(first + middle, lines[middle:])

    def _add_at_once(self, first: int, lines: list[str]) -> bool:
        """Add lines that are all good rows of the usual form; return whether they are."""
        text = "".join(lines)
        if text.isspace():
            return True
        if "0x" in text or "0X" in text:  # Arrow takes hexadecimal numbers
            return False
        content = pa.BufferOutputStream()  # memory of Arrow's own: its threads hold no object of Python
        content.write(text.encode())
        for types in self._types:
            try:
                table = arrow_csv.read_csv(
                    pa.BufferReader(content.getvalue()),
                    arrow_csv.ReadOptions(column_names=self._header, use_threads=False),
                    convert_options=arrow_csv.ConvertOptions(
                        include_columns=list(types), column_types=types, null_values=[], check_utf8=False
                    ),
                )
            except pa.ArrowInvalid:
                continue
            values = {c: np.asarray(table[c.name]).view(c.type_code) for c in self._columns}
            if table.num_rows != len(lines) or not all(c.holds_all(values[c]) for c in values):
                return False
            _split(self._path, first + len(lines) - 1, lines[-1])  # where Arrow closes an open quote itself
            for column, part in values.items():
                self._values[column.name].frombytes(part.tobytes())
            self._lines.append(pd.RangeIndex(first, first + len(lines)))
            return True
        return False

    def _add_row_by_row(self, first: int, lines: list[str]) -> None:
        """Add the good rows, and a problem for each bad one."""
        good_lines = []
        for number, line in enumerate(lines, first):
            row = _split(self._path, number, line)
            if not row:
                continue
            if len(row) != len(self._header):
                reason = f"expected {len(self._header)} cells, got {len(row)}"
                self._add_problem(Problem(number, "", ",".join(row), reason))
                continue
            values = {column.name: column.read(row[place]) for column, place in self._columns.items()}
            bad = next((column for column in self._columns if values[column.name] is None), None)
            if bad is None:
                for name, value in values.items():
                    self._values[name].append(value)
                good_lines.append(number)
                continue
            cell = row[self._columns[bad]]
            self._add_problem(Problem(number, bad.name, cell, f"expected {bad.expected}"))
            if values["vehicle_id"] is not None:
                self._bad_ids.append(int(values["vehicle_id"]))
        self._lines.append(pd.Index(good_lines, dtype=np.int64))

    def _add_problem(self, problem: Problem) -> None:
        self._num_bad += 1
        if len(self._problems) < PROBLEMS_KEPT:
            self._problems.append(problem)
