"""CSV files: found, unzipped, and checked against the data contract as they are read.

Arrow reads a block of lines at once.  A block that it cannot read, or with a value out of range, is read row
by row, so that a bad cell costs its row and no other.
"""

import csv
import gzip
import hashlib
import io
import zlib
from array import array
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from datetime import datetime
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
from pyarrow import csv as arrow_csv

from vroom_features.errors import DataContractError
from vroom_features.ingest.contract import PROBLEMS_KEPT, CheckedFile, Column, Kind, Problem

Progress = Callable[[str, int, int], None]
"""Called with a step, and how much of it is done of how much."""
UNZIPPED_RATIO_MAX = 200
"""How many times its size a gzipped CSV may unpack to: real ones reach 20, a bomb 1,000."""
UNZIPPED_ALWAYS_BYTES = 64 * 1024 * 1024
"""What any gzipped CSV may unpack to."""
HASHED_BYTES = 1 << 20
BLOCK_CHARS = 1 << 17
_ARROW_TYPES: dict[Kind, pa.DataType] = {int: pa.int64(), float: pa.float64(), datetime: pa.timestamp("us")}
_ARROW_TYPES_ZONED = _ARROW_TYPES | {datetime: pa.timestamp("us", "UTC")}


def find_csv(folder: Path, name: str) -> Path:
    """Return where a CSV is, plain or gzipped; DataContractError if there is none."""
    try:
        for path in (folder / name, folder / f"{name}.gz"):
            if path.is_dir():
                raise DataContractError(f"expected a file, {path} is a directory")
            if path.is_file():
                return path
    except OSError as exc:
        raise DataContractError(f"{folder / name} cannot be looked for: {exc}") from exc
    raise DataContractError(f"{folder / name} is missing; expected {name} or {name}.gz in {folder}")


def file_sha256(path: Path) -> str:
    """Return the SHA-256 of a file's content, unzipped.

    Raises
    ------
    DataContractError
        If the file cannot be read, or unpacks to more than a CSV of its size could hold.
    """
    digest, num_bytes = hashlib.sha256(), 0
    with _opened(path) as file:
        max_bytes = max(UNZIPPED_ALWAYS_BYTES, UNZIPPED_RATIO_MAX * path.stat().st_size)
        while chunk := file.read(HASHED_BYTES):
            digest.update(chunk)
            num_bytes += len(chunk)
            if num_bytes > max_bytes:
                raise DataContractError(
                    f"{path} unpacks to more than {max_bytes:,} bytes, {UNZIPPED_RATIO_MAX} times its size,"
                    " as no CSV of a fleet does; if this one is real, give it unpacked"
                )
    return digest.hexdigest()


@contextmanager
def _opened(path: Path) -> Iterator[io.BufferedReader | gzip.GzipFile]:
    """Open a file, unzipping it when its first bytes are those of gzip."""
    try:
        with path.open("rb") as file:
            if file.peek(2)[:2] == b"\x1f\x8b":
                with gzip.GzipFile(fileobj=file) as unzipped:
                    yield unzipped
            else:
                yield file
    except (OSError, EOFError, zlib.error) as exc:
        raise DataContractError(f"{path} cannot be read: {exc}") from exc


def check_file(path: Path, columns: Sequence[Column], *, progress: Progress | None = None) -> CheckedFile:
    """Read these columns of a file, and check them against the contract.

    Raises
    ------
    DataContractError
        If it is no CSV with these columns, or a row of it goes over more than one line.
    """
    with _opened(path) as file:
        size = path.stat().st_size
        text = io.TextIOWrapper(file, "utf-8-sig", errors="replace", newline="")  # LF, CR LF or CR
        line, header = _read_header(path, text, columns)
        rows = _Rows(path, columns, header)
        while lines := text.readlines(BLOCK_CHARS):
            rows.add(line + 1, lines)
            line += len(lines)
            if progress is not None:
                progress(f"reading {path.name}", min(file.tell(), size), size)
    return rows.checked()


def _read_header(path: Path, text: io.TextIOWrapper, columns: Sequence[Column]) -> tuple[int, list[str]]:
    """Return the number and the cells of the first line that is not blank; it must name every column once."""
    expected = [column.name for column in columns]
    line, header = next(
        ((n, row) for n, line in enumerate(text, 1) if (row := _split(path, n, line))), (0, [])
    )
    if not header:
        raise DataContractError(f"{path} is empty; expected a header with {expected}")
    if missing := [name for name in expected if name not in header]:
        raise DataContractError(f"{path}: columns {missing} are missing; got {[c[:40] for c in header[:40]]}")
    if twice := [name for name in expected if header.count(name) > 1]:
        raise DataContractError(f"{path}: columns {twice} are in the header more than once")
    return line, header


def _split(path: Path, number: int, line: str) -> list[str]:
    """Return the cells of a line, none when it is blank; a quoted cell must end on its line."""
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
    """The rows of a file; arrays that grow in place take half the memory of parts to be joined."""

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

    def checked(self) -> CheckedFile:
        values = {name: np.asarray(column) for name, column in self._values.items()}
        lines = pd.RangeIndex(0).append(self._lines)
        return CheckedFile(
            columns=pd.DataFrame(values, lines, copy=False),
            problems=self._problems,
            num_bad=self._num_bad,
            bad_ids=np.asarray(self._bad_ids),
            num_without_id=self._num_bad - len(self._bad_ids),
            num_rows_in_file=self._num_bad + len(lines),
        )

    def add(self, first: int, lines: list[str]) -> None:
        """Add lines, the first of which has this number."""
        if not self._add_at_once(first, lines):
            self._add_row_by_row(first, lines)

    def _add_at_once(self, first: int, lines: list[str]) -> bool:
        """Add lines if all are good rows that Arrow reads; return whether they are."""
        text = "".join(lines)
        if text.isspace():
            return True
        if "0x" in text or "0X" in text:  # Arrow takes hexadecimal numbers
            return False
        content = pa.BufferOutputStream()  # memory of Arrow: its threads hold no object of Python
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
            _split(self._path, first + len(lines) - 1, lines[-1])  # Arrow closes an open quote itself
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
