"""CSV files: found, unzipped, and checked against the data contract as they are read.

Arrow reads a block of lines at once.  A block that it cannot read, or with a value out of range, is read row
by row, so that a bad cell costs its row and no other.
"""

import gzip
import hashlib
import io
import zlib
from array import array
from collections import Counter
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
from vroom_features.ingest.dialect import ColumnReader, Header, open_text, read_header, split

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
    """Return where a CSV is, plain or gzipped; DataContractError if there is none, or both."""
    try:
        found = [path for path in (folder / name, folder / f"{name}.gz") if path.exists()]
        names = [path.name for path in folder.iterdir()] if folder.is_dir() and not found else []
    except OSError as exc:
        raise DataContractError(f"{folder / name} cannot be looked for: {exc}") from exc
    if not found:
        stem = name.split(".")[0]
        hint = "".join(f"; there is {other!r}" for other in sorted(names) if stem in other.lower())
        raise DataContractError(f"{folder / name} is missing; expected {name} or {name}.gz in {folder}{hint}")
    if len(found) > 1:
        raise DataContractError(f"{name} and {name}.gz are both in {folder}; remove the older one")
    if found[0].is_dir():
        raise DataContractError(f"expected a file, {found[0]} is a directory")
    return found[0]


def file_sha256(path: Path) -> str:
    """Return the SHA-256 of a file's content, unzipped; DataContractError for a gzip bomb."""
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

    It is a DataContractError if they are not there, or a row goes over more than one line.
    """
    with _opened(path) as file, open_text(path, file) as text:
        size = path.stat().st_size
        header = read_header(path, text, columns)
        rows, line = _Rows(path, columns, header), header.line
        while lines := text.readlines(BLOCK_CHARS):
            rows.add(line + 1, lines)
            line += len(lines)
            if progress is not None:
                progress(f"reading {path.name}", min(file.tell(), size), size)
    return rows.checked()


class _Rows:
    """The rows of a file; arrays that grow in place take half the memory of parts to be joined."""

    def __init__(self, path: Path, columns: Sequence[Column], header: Header) -> None:
        self._path = path
        self._header = header
        self._width = len(header.names)
        self._num_named = max(place for place, name in enumerate(header.names, 1) if name)
        self._readers = {ColumnReader(column): header.names.index(column.name) for column in columns}
        self._left_out = Counter[str]()
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
        signs = {sign for reader in self._readers if (sign := reader.form and reader.form.currency)}
        if len(signs) > 1:
            raise DataContractError(f"{self._path} has prices in {sorted(signs)}; give them in one currency")
        return CheckedFile(
            columns=pd.DataFrame(values, lines, copy=False),
            problems=self._problems,
            num_bad=self._num_bad,
            bad_ids=np.asarray(self._bad_ids),
            num_without_id=self._num_bad - len(self._bad_ids),
            num_rows_in_file=self._num_bad + len(lines),
            notes=[
                *self._header.notes,
                *(f"{r.column.name}: {', '.join(r.notes)}" for r in self._readers if r.notes),
                *(f"{number:,} {what}" for what, number in self._left_out.items()),
            ],
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
        if any(reader.form for reader in self._readers) or not (self._lines or self._header.separator == ","):
            return False
        content = pa.BufferOutputStream()  # memory of Arrow: its threads hold no object of Python
        content.write(text.encode())
        for types in self._types:
            try:
                table = arrow_csv.read_csv(
                    pa.BufferReader(content.getvalue()),
                    arrow_csv.ReadOptions(column_names=self._header.names, use_threads=False),
                    arrow_csv.ParseOptions(delimiter=self._header.separator),
                    arrow_csv.ConvertOptions(
                        include_columns=list(types), column_types=types, null_values=[], check_utf8=False
                    ),
                )
            except (pa.ArrowInvalid, UnicodeDecodeError):  # it cuts a message within a character
                continue
            columns = [reader.column for reader in self._readers]
            values = {c: np.asarray(table[c.name]).view(c.type_code) for c in columns}
            if table.num_rows != len(lines) or not all(c.holds_all(values[c]) for c in values):
                return False
            self._split(first + len(lines) - 1, lines[-1])  # Arrow closes an open quote itself
            for column, part in values.items():
                self._values[column.name].frombytes(part.tobytes())
            self._lines.append(pd.RangeIndex(first, first + len(lines)))
            return True
        return False

    def _add_row_by_row(self, first: int, lines: list[str]) -> None:
        """Add the good rows, and a problem for each bad one."""
        rows: dict[int, list[str]] = {}
        for number, line in enumerate(lines, first):
            if len(row := self._split(number, line)) == self._width:
                rows[number] = row
            elif row:
                reason = f"expected {self._width} cells, got {len(row)}"
                if len(row) > self._width and self._header.separator == ",":
                    reason += "; a cell with a comma in it needs quotes"
                self._add_problem(Problem(number, "", self._header.separator.join(row), reason))
        read = {
            reader: reader.read(
                [row[place] for row in rows.values()],
                self._values[reader.column.name],
                is_plain=self._header.separator == "," or bool(self._lines),
            )
            for reader, place in self._readers.items()
        }
        good_lines = []
        for (number, row), *values in zip(rows.items(), *read.values(), strict=True):
            if None not in values:
                for reader, value in zip(read, values, strict=True):
                    self._values[reader.column.name].append(value)
                good_lines.append(number)
                continue
            bad = list(read)[values.index(None)]
            cell = row[self._readers[bad]]
            self._add_problem(Problem(number, bad.column.name, cell, bad.reason(cell)))
            by_name = dict(zip((reader.column.name for reader in read), values, strict=True))
            if (vehicle_id := by_name["vehicle_id"]) is not None:
                self._bad_ids.append(int(vehicle_id))
        self._lines.append(pd.Index(good_lines, dtype=np.int64))

    def _split(self, number: int, line: str) -> list[str]:
        """Return the cells of a line, as many as the header's if only empty ones are lacking or too many."""
        row = split(self._path, number, line, self._header.separator)
        if row and not any(map(str.strip, row)):
            self._left_out["rows without any value left out"] += 1
            return []
        if len(row) != self._width and len(row) >= self._num_named and not any(row[self._num_named :]):
            self._left_out["rows with empty cells behind the last column"] += 1
            row = (row + [""] * self._width)[: self._width]
        return row

    def _add_problem(self, problem: Problem) -> None:
        self._num_bad += 1
        if len(self._problems) < PROBLEMS_KEPT:
            self._problems.append(problem)
