"""The data contract of the two CSV files, checked column by column as they stream in.

Cells come as text and are converted here, so one that is not what it should be costs its row and no other.
Times without a zone are UTC.  (The parser's own conversion of times takes twice as long as this one.)
"""

import csv as rows_csv
import io
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Self

import numpy as np
import pandas as pd
import pyarrow as pa
from pyarrow import csv

from vroom_features.cells import MOMENT, Array, Mask, convert
from vroom_features.csv_files import BinaryFile, Content, ContentReader, Growing, Lent, opened
from vroom_features.errors import DataContractError
from vroom_features.vehicle import COLUMNS, UI_VEHICLE_ID_START, RawColumn

BLOCK_BYTES = 1 << 20
PROBLEMS_KEPT = 100_000
HEADER_MAX_CHARS = 1 << 20


@dataclass(frozen=True, slots=True)
class Column:
    """What a column must hold: its type, and a range, both ends included; of moments as microseconds."""

    name: str
    kind: pa.DataType
    low: float
    high: float

    @classmethod
    def of(cls, column: RawColumn) -> Self:
        """Return what a raw column of a vehicle must hold."""
        low = float(np.nextafter(column.low, np.inf)) if column.is_low_excluded else column.low
        return cls(column.name, pa.int64() if column.is_whole else pa.float64(), low, column.high)

    @property
    def expected(self) -> str:
        """What to say when a cell does not fit."""
        if pa.types.is_timestamp(self.kind):
            return "a date and time such as 2023-05-01 12:30:00"
        noun = "a number" if pa.types.is_floating(self.kind) else "an integer"
        return f"{noun} from {self.low:g} to {self.high:g}"

    def holds(self, values: Array) -> Mask:
        """Say which values are in the range."""
        inside: Mask = (values >= self.low) & (values <= self.high)
        return inside


_YEARS_1_TO_9999 = [
    int(np.datetime64(moment, "us").astype(np.int64))
    for moment in ("0001-01-01", "9999-12-31 23:59:59.999999")
]
VEHICLE_COLUMNS = (
    Column("vehicle_id", pa.int64(), 1, UI_VEHICLE_ID_START - 1),
    *map(Column.of, COLUMNS.values()),
)
RESERVATION_COLUMNS = (
    Column("vehicle_id", pa.int64(), 1, 2**63 - 1),
    Column("created_at", MOMENT, *_YEARS_1_TO_9999),
)


@dataclass(frozen=True, slots=True)
class Problem:
    """A row that breaks the contract: its place among the data rows from 0, and why."""

    row: int
    column: str
    value: str
    reason: str


@dataclass
class CheckedFile:
    """The good rows of a file as NumPy columns, the bad ones as problems, and the SHA-256 of its bytes.

    ``bad_ids`` has the ``vehicle_id`` of each row that broke the contract, where it can be read, and
    ``num_without_id`` counts the rows where it cannot, or whose width is wrong.
    """

    columns: dict[str, Array]
    num_rows: int
    problems: list[Problem]
    num_bad: int
    sha256: str
    bad_rows: list[int]
    bad_ids: Array
    num_without_id: int

    @property
    def num_rows_in_file(self) -> int:
        """Rows of the file, those of the wrong width among them."""
        return self.num_rows + self.num_bad - len(self.bad_rows)

    def may_have_bad_rows(self, vehicle_ids: Array) -> Mask:
        """Say which vehicles a bad row may be of: all of them, where one is without an id."""
        if self.num_without_id:
            return np.ones(len(vehicle_ids), bool)
        return np.isin(vehicle_ids, self.bad_ids)

    def reject(self, positions: Array, reason: str) -> None:
        """Make good rows bad ones, for their ``vehicle_id``; ``positions`` are among the good rows."""
        rows = np.delete(np.arange(self.num_rows), self.bad_rows)[positions].tolist()
        ids = self.columns["vehicle_id"][positions]
        self.problems += [
            Problem(row, "vehicle_id", str(vehicle_id), reason)
            for row, vehicle_id in zip(rows, ids, strict=True)
        ]
        self.bad_rows += rows
        self.num_bad += len(rows)
        self.leave_out(positions)

    def take_columns(self) -> pd.DataFrame:
        """Return the good rows, and keep them no longer."""
        columns, self.columns = self.columns, {}
        return pd.DataFrame(columns, copy=False)

    def leave_out(self, positions: Array) -> None:
        """Take rows out of the good ones."""
        self.columns = {name: np.delete(values, positions) for name, values in self.columns.items()}


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
    _check_header(path, columns)
    ragged: list[int] = []
    names = [column.name for column in columns]
    kept = {c.name: Growing(np.float64 if pa.types.is_floating(c.kind) else np.int64) for c in columns}
    problems: list[Problem] = []
    bad_rows: list[int] = []
    bad_ids = Growing(np.int64)
    num_rows = 0
    content = Content()
    with opened(path) as file:
        try:
            for batch in _batches_of_text(file, names, ragged, content, progress):
                values, good, has_id = _check_batch(batch, columns, num_rows, problems)
                bad_ids.append(values["vehicle_id"][has_id & ~good])
                bad_rows += (np.flatnonzero(~good) + num_rows).tolist()
                for name, array in values.items():
                    kept[name].append(array if good.all() else array[good])
                num_rows += batch.num_rows
        except (pa.ArrowException, OSError, EOFError) as exc:
            _refuse_open_quote(path)
            raise DataContractError(f"{path} cannot be read: {exc}") from exc
    if content.num_lines != 1 + num_rows + len(ragged):
        _refuse_open_quote(path)
        raise DataContractError(
            f"{path}: expected a row on each of its {content.num_lines} lines, a header first;"
            f" found {num_rows + len(ragged)} rows"
        )
    num_bad = len(bad_rows) + len(ragged)
    values = {name: column.done() for name, column in kept.items()}
    ids = bad_ids.done()
    return CheckedFile(
        values, num_rows, problems, num_bad, content.sha256, bad_rows, ids, num_without_id=num_bad - len(ids)
    )


def _batches_of_text(
    file: BinaryFile,
    names: Sequence[str],
    ragged: list[int],
    content: Content,
    progress: Callable[[int], None] | None,
) -> Iterator[pa.RecordBatch]:
    """Read columns as text, and add the width of each row that is too short or too long to ``ragged``."""
    lent = Lent()
    reader = None
    try:
        reader = csv.open_csv(
            pa.PythonFile(lent(ContentReader(file, content, progress)), mode="r"),
            csv.ReadOptions(block_size=BLOCK_BYTES, use_threads=False),
            csv.ParseOptions(newlines_in_values=True, invalid_row_handler=lent(_skipping(ragged))),
            csv.ConvertOptions(
                include_columns=names,
                column_types=dict.fromkeys(names, pa.string()),
                check_utf8=False,
            ),
        )
        yield from reader
    finally:
        del reader
        lent.wait()


def _skipping(ragged: list[int]) -> Callable[[csv.InvalidRow], str]:
    """Return what leaves out a row of the wrong width, and adds that width to a list."""

    def skip(row: csv.InvalidRow) -> str:
        ragged.append(row.actual_columns)
        return "skip"

    return skip


def locate(path: Path, problems: Sequence[Problem]) -> Iterator[tuple[int, Problem]]:
    """Give each problem with the line it stands on, and one for each row of the wrong width.

    Only a file with bad rows is read this second time.
    """
    wanted = {problem.row: problem for problem in problems}
    with opened(path) as file, io.TextIOWrapper(file, "utf-8-sig", errors="replace", newline="") as text:
        records = rows_csv.reader(text)
        width, row, line = len(next(filter(None, records))), 0, records.line_num + 1
        try:
            for record in records:
                first_line, line = line, records.line_num + 1
                if not record:
                    continue
                if len(record) != width:
                    cells = f"expected {width} cells, got {len(record)}"
                    yield first_line, Problem(-1, "", ",".join(record), cells)
                    continue
                if row in wanted:
                    yield first_line, wanted[row]
                row += 1
        except rows_csv.Error as exc:  # a cell longer than any number or moment is
            raise DataContractError(f"{path}, line {line}: {exc}") from exc


def _refuse_open_quote(path: Path) -> None:
    """Raise at the first row that goes over more than one line: a stray quote hides the rows after it."""
    line = 0
    with opened(path) as file, io.TextIOWrapper(file, "utf-8-sig", errors="replace", newline="") as text:
        records = rows_csv.reader(text)
        try:
            for line, _ in enumerate(records, start=1):
                if records.line_num > line:
                    break
            else:
                return
        except rows_csv.Error as exc:  # a cell longer than any number or moment is
            line += 1
            if records.line_num == line:
                raise DataContractError(f"{path}, line {line}: {exc}") from exc
    raise DataContractError(
        f"{path}, line {line}: a quoted cell goes on in the next line and takes in the rows that follow;"
        " close the quote, and write each row on one line"
    )


def _check_header(path: Path, columns: Sequence[Column]) -> None:
    """Raise unless the first line names every column once."""
    with opened(path) as file, io.TextIOWrapper(file, "utf-8-sig", errors="replace", newline="") as text:
        try:
            lines = iter(partial(text.readline, HEADER_MAX_CHARS), "")
            header = next(filter(None, rows_csv.reader(lines)), [])
        except (OSError, EOFError, rows_csv.Error) as exc:
            raise DataContractError(f"{path} cannot be read: {exc}") from exc
    expected = [column.name for column in columns]
    if not header:
        raise DataContractError(f"{path} is empty; expected a header with {expected}")
    if missing := [name for name in expected if name not in header]:
        raise DataContractError(f"{path}: columns {missing} are missing; got {[c[:40] for c in header[:40]]}")
    if twice := [name for name in expected if header.count(name) > 1]:
        raise DataContractError(f"{path}: columns {twice} stand in the header more than once")


def _check_batch(
    batch: pa.RecordBatch, columns: Sequence[Column], first_row: int, problems: list[Problem]
) -> tuple[dict[str, Array], Mask, Mask]:
    """Convert a batch of text, and say which rows are good, and of which the id can be read."""
    good = np.ones(batch.num_rows, bool)
    has_id = good
    values = {}
    for column in columns:
        text = batch.column(column.name)
        values[column.name], fits = convert(text, column.kind)
        fits &= column.holds(values[column.name])
        for row in np.flatnonzero(good & ~fits).tolist():
            if len(problems) < PROBLEMS_KEPT:
                cell = text[row].cast(pa.binary()).as_py().decode(errors="replace")
                problems.append(Problem(first_row + row, column.name, cell, f"expected {column.expected}"))
        good &= fits
        if column.name == "vehicle_id":
            has_id = fits
    return values, good, has_id
