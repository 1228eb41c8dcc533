"""What a CSV file is and what its cells mean, as programs export them.

What can be read in one way only is read, and a note for the report says how.  What could mean two things, or
is another format, is refused with what to do.
"""

import codecs
import csv
import io
import re
from array import array
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from decimal import Decimal
from difflib import get_close_matches
from gzip import GzipFile
from itertools import compress, product
from pathlib import Path
from typing import Any, Self

import numpy as np

from vroom_features.errors import DataContractError
from vroom_features.ingest.contract import Column

Values = list[int | float | None]
SEPARATORS = ",;\t|"
THOUSANDS_MARKS = ",.' \N{RIGHT SINGLE QUOTATION MARK}\N{NO-BREAK SPACE}\N{NARROW NO-BREAK SPACE}"
CELL_MAX = 40
"""Longer cells are no number or moment of any form but the plain one."""
WORDS = {"true": 1, "yes": 1, "t": 1, "y": 1, "false": 0, "no": 0, "f": 0, "n": 0}
ENCODINGS = {
    codecs.BOM_UTF32_LE: "UTF-32",  # before UTF-16, whose mark it starts with
    codecs.BOM_UTF32_BE: "UTF-32",
    codecs.BOM_UTF16_LE: "UTF-16",
    codecs.BOM_UTF16_BE: "UTF-16",
    codecs.BOM_UTF8: "UTF-8-SIG",
}
_SHEET = "save its sheet as 'CSV UTF-8', or run: libreoffice --headless --convert-to csv FILE"
_TABLE = "run: python -c \"import pandas; pandas.read_{}('FILE').to_csv('NEW.csv', index=False)\""
_FOREIGN = (
    (rb"PK\x03\x04.*?(?:\[Content_Types\]|docProps|xl/)", "an Excel workbook", _SHEET),
    (rb"\xd0\xcf\x11\xe0", "an old Excel workbook (xls)", _SHEET),
    (rb"PK\x03\x04.*?opendocument", "an OpenDocument sheet", _SHEET),
    (rb"PK\x03\x04|PK\x05\x06", "a zip archive", "run: unzip FILE"),
    (rb"\x1f\x8b", "gzipped twice", "run gunzip once"),
    (rb"BZh|\xfd7zXZ|\x28\xb5\x2f\xfd|7z\xbc\xaf", "a bzip2, xz, zstd or 7z archive", "unpack it"),
    (rb"PAR1", "a Parquet file", _TABLE.format("parquet")),
    (rb"SQLite format 3|Obj\x01|ARROW1", "a database, Avro or Arrow file", "export its rows as CSV"),
    (rb"%PDF", "a PDF", "export CSV from the program that made it"),
    (rb"version https://git-lfs", "a Git LFS pointer in place of the file", "run: git lfs pull"),
    (rb"(?i)\s*<(?:!doctype )?html", "an HTML page, as of a sign-in or error", "download the file again"),
    (rb"\s*<", "an XML document, as of an error", "download the file again, as CSV"),
    (rb"\s*[\[{]", "JSON", _TABLE.format("json")),
    (rb"(?:[^\0]\0){4}", "UTF-16 without a byte order mark", "run: iconv -f UTF-16LE -t UTF-8 FILE"),
    (rb"(?:\0[^\0]){4}", "UTF-16 without a byte order mark", "run: iconv -f UTF-16BE -t UTF-8 FILE"),
    (rb"[^\r\n]*\0", "binary: NUL bytes stand where the header is missing", "export it as CSV in UTF-8"),
)
NOT_UTF8 = "this is not UTF-8; if it is Windows-1252, convert the file: iconv -f WINDOWS-1252 -t UTF-8"
_SEPARATOR_LINE = re.compile(r'"?sep=([^\w\s".+-]|\t)"?', re.ASCII | re.IGNORECASE)
_CURRENCY = re.compile(r"[A-Z]{0,3}[$€£¥₹₩₺₽₫₪฿₴]|[A-Z]{3}|kr|zł")
_EITHER = re.compile(r"\D*\d{1,3}[.,]\d{3}\D*", re.ASCII)
_TIMES = (
    (re.compile(r"^(\d{4})/(\d\d)/(\d\d)\b", re.ASCII), r"\1-\2-\3", "slashes in dates"),
    (re.compile(r"(?:\s*[+-]00:?00)?\s*(?:UTC|GMT|(?<=\s)Z|z)$"), "Z", "UTC written behind the time"),
)
_FINE = re.compile(r"[.,]\d{6}\d*[1-9]", re.ASCII)
_FOREIGN_TIMES = (
    (r"\d\d?[/.-]\d\d?[/.-]\d{2,4}\b", "a US or EU date", "use pandas.to_datetime(..., dayfirst=...)"),
    (r"\d{9,10}(?:\.\d*)?$", "seconds since 1970", "use pandas.to_datetime(..., unit='s')"),
    (r"\d{12,13}(?:\.\d*)?$", "milliseconds since 1970", "use pandas.to_datetime(..., unit='ms')"),
    (r"\d{15,16}$", "microseconds since 1970", "use pandas.to_datetime(..., unit='us')"),
    (r"\d{18,19}$", "nanoseconds since 1970", "use pandas.to_datetime(..., unit='ns')"),
    (r"\d{5}(?:[.,]\d*)?$", "a serial date of Excel", "give its cells the format yyyy-mm-dd hh:mm:ss"),
    (r"\d[.,]\d+[eE]\+?\d+$", "a number shortened by a spreadsheet", "export it as text"),
)


@dataclass(frozen=True, slots=True)
class Header:
    """The header of a file: its line, the separator, and the columns' names, spelled as in the contract."""

    line: int
    separator: str
    names: list[str]
    notes: tuple[str, ...]


def open_text(path: Path, file: io.BufferedReader | GzipFile) -> io.TextIOWrapper:
    """Return the text of a file; DataContractError if its first bytes are those of another format."""
    start = file.peek(4096)
    encoding = next((name for mark, name in ENCODINGS.items() if start.startswith(mark)), "UTF-8")
    if encoding != "UTF-8":
        start = start.decode(encoding, "ignore").encode()
    for pattern, name, advice in _FOREIGN:
        if re.match(pattern, start, re.DOTALL):
            advice = advice.replace("FILE", str(path)).replace("NEW", path.name.split(".")[0])
            raise DataContractError(f"{path} is {name}; expected CSV; {advice}")
    return io.TextIOWrapper(file, encoding, errors="replace", newline="")  # LF, CR LF or CR


def split(path: Path, number: int, line: str, separator: str) -> list[str]:
    """Return the cells of a line, none when it is blank; a quoted cell must end on its line."""
    if line.isspace():
        return []
    try:
        (row,) = csv.reader([line], delimiter=separator)
    except csv.Error as exc:  # a cell longer than any number or moment is
        raise DataContractError(f"{path}, line {number}: {exc}") from exc
    if row[-1].endswith(("\n", "\r")):
        raise DataContractError(
            f"{path}, line {number}: a quoted cell goes on in the next line and takes in the rows that"
            " follow; close the quote, and write each row on one line"
        )
    return row


def read_header(path: Path, text: io.TextIOWrapper, columns: Sequence[Column]) -> Header:
    """Read up to the first line that is neither blank nor ``sep=``; it must name every column once."""
    expected = {_key(column.name): column.name for column in columns}
    number, separator, told, row = 0, ",", "", list[str]()
    for number, line in enumerate(text, 1):
        if not told and (found := _SEPARATOR_LINE.fullmatch(line.rstrip("\r\n"))):
            told = found[1]
        elif not line.isspace():
            rows = {mark: split(path, number, line, mark) for mark in told or SEPARATORS}
            separator = max(rows, key=lambda mark: sum(_key(cell) in expected for cell in rows[mark]))
            row = [cell.strip() for cell in rows[separator]]
            break
    if not any(row):
        raise DataContractError(f"{path} is empty; expected a header with {list(expected.values())}")
    names = [expected.get(_key(cell), cell) for cell in row]
    if missing := [name for name in expected.values() if name not in names]:
        keys = {_key(cell): cell for cell in row}
        near = ((name, key) for name in missing for key in get_close_matches(_key(name), keys, 1))
        hints = [f"{keys[key][:40]!r} is near {name}: rename it" for name, key in near]
        hints += [NOT_UTF8] * ("\ufffd" in "".join(row))
        got = [cell[:40] for cell in row[:40]]
        raise DataContractError(f"{path}: columns {missing} are missing; got {got}{'; '.join(['', *hints])}")
    if twice := [name for name in expected.values() if names.count(name) > 1]:
        same = [cell for cell, name in zip(row, names, strict=True) if name in twice]
        raise DataContractError(f"{path}: columns {twice} are in the header more than once: {same}")
    renamed = [f"{cell!r} as {name}" for cell, name in zip(row, names, strict=True) if cell != name]
    others = [repr(name[:40]) for name in names if name and name not in expected.values()]
    notes = (
        f"read {separator!r} as separator" if separator != "," else "",
        f"read as {text.encoding}" if "UTF-8" not in text.encoding else "",
        f"read {', '.join(renamed)}" if renamed else "",
        f"ignored {', '.join(others)}" if others else "",
    )
    return Header(number, separator, names, tuple(filter(None, notes)))


def _key(name: str) -> str:
    """Return a name without case, blanks, dashes and underscores."""
    return re.sub(r"[\W_]+", "", name).lower()


@dataclass(frozen=True, slots=True)
class Form:
    """How a column writes its numbers; with a mark of thousands, every number from 1,000 on has it."""

    decimal: str = ""
    thousands: str = ""
    currency: str = ""
    is_words: bool = False

    def read(self, cells: Sequence[str], column: Column) -> Values:
        if self.is_words:
            return [WORDS.get(cell.strip().lower()) for cell in cells]
        point, mark, sign = map(re.escape, (self.decimal, self.thousands, self.currency))
        whole = rf"[1-9]\d{{0,2}}(?:{mark}\d{{3}})+|\d{{1,3}}" if mark else r"\d+"
        part = rf"(?:{point}\d*)?(?:[eE][+-]?\d{{1,3}})?" if point else ""
        number = rf"([+-]?(?:{whole}){part})"
        pattern = re.compile(rf"{sign}\s*{number}|{number}\s*{sign}".replace(r"\d", "[0-9]"))
        found = (pattern.fullmatch(cell.strip()) if len(cell) < CELL_MAX else None for cell in cells)
        return [self._value(match[1] or match[2], column) if match else None for match in found]

    def _value(self, number: str, column: Column) -> int | float | None:
        text = number.replace(self.thousands, "") if self.thousands else number
        exact = Decimal(text.replace(self.decimal, ".") if self.decimal else text)
        if column.kind is float:
            return column.read(str(exact))
        digits_after = -int(exact.as_tuple().exponent)  # below 0 some digits are not written: 1.2E+03
        return column.read(str(int(exact))) if digits_after >= 0 and exact == int(exact) else None

    def extends(self, other: Self) -> bool:
        """Return whether numbers of the other form can be of this one."""
        marks = ((self.decimal, other.decimal), (self.thousands, other.thousands))
        is_same = (self.currency, self.is_words) == (other.currency, other.is_words)
        return is_same and all(theirs in ("", ours) for ours, theirs in marks)

    @property
    def notes(self) -> list[str]:
        notes = {
            "true and false, or yes and no, as 1 and 0": self.is_words,
            "a decimal comma": self.decimal == ",",
            "a decimal point": self.decimal == ".",
            f"{self.thousands!r} as thousands mark": self.thousands,
            f"the currency sign {self.currency!r}": self.currency,
        }
        return [note for note, is_so in notes.items() if is_so]


class ColumnReader:
    """Reads the cells of one column, a block at a time, and learns how they are written."""

    def __init__(self, column: Column) -> None:
        self.column = column
        self.form: Form | None = None  # plain
        self._notes: set[str] = set()

    @property
    def notes(self) -> list[str]:
        return sorted(self._notes) + (self.form.notes if self.form else [])

    def read(self, cells: Sequence[str], earlier: "array[Any]", *, is_plain: bool) -> Values:
        """Return the values of cells, None where there is none.

        The form that reads most cells is taken; if two do, and differ, none is.  After ``earlier`` values a
        form may only be extended.  Unless ``is_plain``, a point may be a thousands mark.
        """
        if self.column.kind is datetime:
            return [self._read_moment(cell) for cell in cells]
        values = self.form.read(cells, self.column) if self.form else list(map(self.column.read, cells))
        is_odd = (not is_plain or value is None for value in values)
        odd = [cell for cell in compress(cells, is_odd) if len(cell) < CELL_MAX]
        forms = self._forms(odd, earlier) if odd else []
        readings = [(self.form, values), *((form, form.read(cells, self.column)) for form in forms)]
        least_bad = min(reading.count(None) for _, reading in readings)
        best = [(form, reading) for form, reading in readings if reading.count(None) == least_bad]
        if best[0][1] is values and is_plain:
            return values
        self.form, values = best[0]
        if any(reading != values for _, reading in best):
            self.form = Form()
            values = self.form.read(cells, self.column)
        return values

    def _forms(self, odd: list[str], earlier: "array[Any]") -> list[Form]:
        """Return the forms that these cells may have."""
        marks = set("".join(cell for cell in odd if any(map(str.isdigit, cell))))
        decimals, thousands = (["", *filter(marks.__contains__, chars)] for chars in (".,", THOUSANDS_MARKS))
        is_number = self.column.kind is float
        signs = Counter(sign for cell in odd if is_number for sign in _CURRENCY.findall(cell))
        currencies = ["", *(sign for sign, _ in signs.most_common(1))]
        forms = [Form(d, t, c) for d, t, c in product(decimals, thousands, currencies) if not d or d != t]
        forms += [Form(is_words=True)] * (self.column.high == 1)
        if not len(earlier):
            return forms
        has_point = is_number and (np.asarray(earlier) % 1).any()
        return [form for form in forms if form.extends(self.form or Form("." if has_point else ""))]

    def _read_moment(self, cell: str) -> int | float | None:
        value, notes = self.column.read(cell), []
        if value is None and len(cell) < CELL_MAX:
            for pattern, replacement, note in _TIMES:
                cell, num_found = pattern.subn(replacement, cell.strip())
                notes += [note] * num_found
            value = self.column.read(cell) if notes else None
        if value is not None and _FINE.search(cell):
            notes.append("moments cut to microseconds")
        self._notes.update(notes if value is not None else ())
        return value

    def reason(self, cell: str) -> str:
        """Return what was expected of a cell that has no value, and what it may be."""
        reason, cell = f"expected {self.column.expected}", cell.strip()
        if "\ufffd" in cell:
            return f"{reason}; {NOT_UTF8}"
        if self.column.kind is datetime:
            looks = (look for pattern, *look in _FOREIGN_TIMES if re.match(pattern, cell, re.ASCII))
            return next((f"{reason}; this looks like {name}: {advice}" for name, advice in looks), reason)
        if _EITHER.fullmatch(cell):
            return f"{reason}; is its mark for decimals or thousands? write a decimal point and no other mark"
        return reason
