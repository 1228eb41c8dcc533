"""CSV files as people export them: what can be read in one way is, and said; the rest is refused by name."""

import gzip
import io
import re
import zipfile
from collections.abc import Callable
from pathlib import Path

import pandas as pd
import pytest

from tests.vroom_features.commands import command, report
from tests.vroom_features.files import write_csvs
from tests.vroom_features.stores import refused
from vroom_features.database.vehicles import SourceStore
from vroom_features.errors import DataContractError
from vroom_features.ingest.contract import VEHICLE_COLUMNS, CheckedFile, reservation_columns
from vroom_features.ingest.csv_files import BLOCK_CHARS, check_file
from vroom_features.ingest.seed import seed
from vroom_features.vehicle import COLUMNS

VEHICLES = pd.DataFrame(
    {
        "vehicle_id": [1, 2, 3, 4],
        "technology": [1, 0, 0, 1],
        "actual_price": [2035.5, 45.25, 60.0, 1250.75],
        "recommended_price": [1770.0, 50.5, 61.0, 1590.0],
        "num_images": [5, 4, 12, 1],
        "street_parked": [0, 1, 1, 0],
        "description": [7, 224, 1234, 0],
    }
).astype(str)
BOOKINGS = pd.DataFrame({"vehicle_id": ["1", "2", "3"], "created_at": "2023-05-01 12:30:15"})
FRAMES = {"vehicles": VEHICLES, "reservations": BOOKINGS}
PRICES = "actual_price recommended_price"
Frames = dict[str, pd.DataFrame]
Text = Callable[[str], str]
Content = Callable[[str], str | bytes]


def grouped(mark: str, point: str, around: str = "{}") -> Text:
    """Write a number with two decimals and marks of thousands."""
    marks = str.maketrans(",.", (mark or "\0") + point)
    return lambda cell: around.format(f"{float(cell):,.2f}".translate(marks).replace("\0", ""))


def always(text: str) -> Text:
    return lambda _: text


def cells(columns: str, change: Text) -> Frames:
    """Return the frames with the cells of some columns written otherwise."""
    return {
        file: frame.assign(**{name: frame[name].map(change) for name in columns.split() if name in frame})
        for file, frame in FRAMES.items()
    }


def header(change: Text) -> Text:
    """Write the names of the columns otherwise."""

    def change_names(text: str) -> str:
        names, rows = text.split("\n", 1)
        return ",".join(map(change, names.split(","))) + "\n" + rows

    return change_names


def write(folder: Path, frames: Frames, separator: str = ",", change: Content = str) -> Path:
    folder.mkdir(exist_ok=True)
    for name, frame in frames.items():
        text = change(frame.to_csv(index=False, sep=separator))
        (folder / f"{name}.csv").write_bytes(text.encode() if isinstance(text, str) else text)
    return folder


def check(folder: Path) -> dict[str, CheckedFile]:
    columns = {"vehicles": VEHICLE_COLUMNS, "reservations": reservation_columns()}
    return {name: check_file(folder / f"{name}.csv", each) for name, each in columns.items()}


FORMS_OF_FILES: dict[str, tuple[str, Content, str]] = {
    "semicolon": (";", str, "vehicles.csv: read ';' as separator"),
    "sep line": ("^", lambda text: f"SEP=^\n{text}", r"'\^' as separator"),
    "sep line of a comma": (",", lambda text: f'"sep=,"\r\n\r\n{text}', ""),
    "sep line behind a mark": (";", lambda text: f"\ufeffsep=;\n{text}", "';' as separator"),
    "UTF-16, tabs": ("\t", lambda text: b"\xfe\xff" + text.encode("utf-16-be"), r"'\\t' .* as UTF-16"),
    "UTF-16 zipped": (",", lambda text: gzip.compress(text.encode("utf-16")), "read as UTF-16"),
    "UTF-32": (",", lambda text: text.encode("utf-32"), "read as UTF-32"),
    "title case": (",", header(lambda name: name.replace("_", " ").title()), "'Vehicle Id' as vehicle_id"),
    "camel case": (",", header(lambda name: name.title().replace("_", "")), "'VehicleId' as vehicle_id"),
    "blanks": (",", lambda text: text.replace(",", " , "), ""),
    "hard blanks": (",", header("\u00a0{} ".format), ""),
    "carriage returns": (",", lambda text: text.replace("\n", "\r"), ""),
    "lines end in a separator": (",", lambda text: text.replace("\n", ",\n"), ""),
    "header ends in separators": (",", lambda text: text.replace("\n", ",,\n", 1), "empty cells behind"),
    "rows end in separators": (
        ",",
        lambda text: text.replace("\n", ",,\n").replace(",,\n", "\n", 1),
        "rows with empty cells behind the last column",
    ),
    "empty rows": (",", lambda text: text + ",,\n" * 9, "9 rows without any value left out"),
    "further column": (
        ",",
        lambda text: text.replace("\n", ",\xe9;x\n").replace("\xe9;x", "Notes", 1).encode("latin-1"),
        "ignored 'Notes'",
    ),
}
FORMS_OF_CELLS: dict[str, tuple[str, str, Text, str]] = {
    "floats of Excel": (",", "technology", "{}.0E+00".format, "technology: a decimal point"),
    "floats of NumPy": (",", "description", lambda cell: f"{int(cell):.18e}", "description: a decimal point"),
    "floats of Java": (";", "description", "{}.0".format, "description: a decimal point"),
    "floats with a comma": (";", "num_images", "{},0".format, "num_images: a decimal comma"),
    "decimal commas": (",", PRICES, grouped("", ","), "recommended_price: a decimal comma"),
    "German": (";", PRICES, grouped(".", ","), r"a decimal comma, '\.' as thousands mark"),
    "French": (";", PRICES, grouped("\u202f", ",", "{} €"), "thousands mark, the currency sign '€'"),
    "Swiss": (",", PRICES, grouped("'", ".", "CHF {}"), "the currency sign 'CHF'"),
    "dollars": (",", PRICES, grouped(",", ".", "${}"), r"',' as thousands mark, the currency sign '\$'"),
    "thousands": (",", "description", lambda cell: f"{int(cell):,}", "description: ',' as thousands mark"),
    "true": (",", "technology", {"1": "TRUE", "0": "FALSE"}.__getitem__, "technology: true and false"),
    "yes": (",", "street_parked", {"1": "yes", "0": "No"}.__getitem__, "street_parked: true and false"),
    "zeros before": (",", "vehicle_id", " 00{}".format, ""),
    "UTC": (",", "created_at", always("2023-05-01 12:30:15 UTC"), "created_at: UTC written behind the time"),
    "zone and UTC": (",", "created_at", always("2023-05-01 12:30:15 +0000 UTC"), "created_at: UTC"),
    "small z": (",", "created_at", always("2023-05-01T12:30:15z"), "created_at: UTC"),
    "slashes": (",", "created_at", always("2023/05/01 12:30:15"), "slashes in dates"),
    "seven digits": (",", "created_at", always("2023-05-01 14:30:15.0000000 +02:00"), ""),
    "nanoseconds": (",", "created_at", always("2023-05-01T12:30:15.000000123Z"), "cut to microseconds"),
}
READ: dict[str, tuple[Frames, str, Content, str]] = {
    **{name: (FRAMES, mark, change, note) for name, (mark, change, note) in FORMS_OF_FILES.items()},
    **{
        name: (cells(columns, change), mark, str, note)
        for name, (mark, columns, change, note) in FORMS_OF_CELLS.items()
    },
}


@pytest.mark.parametrize(("frames", "separator", "change", "note"), READ.values(), ids=READ)
def test_a_file_in_another_form_is_read_and_said_to_be(
    tmp_path: Path, frames: Frames, separator: str, change: Content, note: str
) -> None:
    plain = check(write(tmp_path / "plain", FRAMES))
    found = check(write(tmp_path / "exported", frames, separator, change))
    for name, file in found.items():
        assert not file.problems
        assert not plain[name].notes
        pd.testing.assert_frame_equal(*(f.columns.reset_index(drop=True) for f in (file, plain[name])))
    said = "; ".join(f"{name}.csv: {said}" for name, file in found.items() for said in file.notes)
    assert re.search(note, said)
    assert bool(said) == bool(note)


def archive(name: str) -> bytes:
    """Return a zip archive with an empty file of this name."""
    content = io.BytesIO()
    with zipfile.ZipFile(content, "w") as zipped:
        zipped.writestr(name, "")
    return content.getvalue()


PLAIN = VEHICLES.to_csv(index=False)
CURRENCIES = VEHICLES.assign(
    actual_price="$" + VEHICLES["actual_price"], recommended_price="€" + VEHICLES["recommended_price"]
).to_csv(index=False)
FOREIGN: dict[str, tuple[str | bytes, str]] = {
    "workbook": (archive("docProps/app.xml"), "is an Excel workbook; .*libreoffice .*vehicles.csv"),
    "old workbook": (b"\xd0\xcf\x11\xe0\xa1\xb1" + bytes(500), "is an old Excel workbook"),
    "zip": (archive("vehicles.csv"), "is a zip archive; .*unzip"),
    "gzipped twice": (gzip.compress(gzip.compress(PLAIN.encode())), "gzipped twice.* gunzip"),
    "cut off": (gzip.compress(PLAIN.encode())[:-9], "cannot be read"),
    "bzip2": (b"BZh91AY&SY", "is a bzip2,"),
    "parquet": (b"PAR1\x15\x04", r"is a Parquet file; .*read_parquet\('\S+'\).to_csv\('vehicles.csv'"),
    "json": ('\n[{"vehicle_id": 1}]', "is JSON; .*read_json"),
    "page": ("\ufeff\n<!DOCTYPE html><html>", "is an HTML page.* download"),
    "xml": ('<?xml version="1.0"?><Error><Code>AccessDenied</Code></Error>', "is an XML document"),
    "pdf": (b"%PDF-1.7\n", "is a PDF"),
    "pointer": ("version https://git-lfs.github.com/spec/v1\noid", "Git LFS pointer.* git lfs pull"),
    "UTF-16 without a mark": (PLAIN.encode("utf-16-le"), "UTF-16 without .* iconv -f UTF-16LE"),
    "UTF-16 BE without a mark": (PLAIN.encode("utf-16-be"), "UTF-16 without .* iconv -f UTF-16BE"),
    "NUL bytes": (PLAIN.replace("_", "\0"), "NUL bytes"),
    "header in Latin-1": (PLAIN.replace("num_images", "n\u00fcm").encode("latin-1"), "iconv -f WINDOWS-1252"),
    "near": (PLAIN.replace("num_images", "Num Image"), "'Num Image' is near num_images: rename it"),
    "twice": (PLAIN.replace("technology", "Vehicle Id,technology"), r"more than once: \['vehicle_id', 'Veh"),
    "currencies": (CURRENCIES, r"prices in \['\$', '€'\]; .*one currency"),
    "no header": (PLAIN.partition("\n")[2], "columns .* are missing; got"),
    "empty": ("\n", "is empty; expected a header"),
}


@pytest.mark.parametrize(("content", "problem"), FOREIGN.values(), ids=FOREIGN)
def test_what_is_another_format_is_refused_by_its_name(
    tmp_path: Path, content: str | bytes, problem: str
) -> None:
    folder = write(tmp_path / "csv", FRAMES)
    (folder / "vehicles.csv").write_bytes(content.encode() if isinstance(content, str) else content)
    with pytest.raises(DataContractError, match=problem):
        check(folder)


MOMENTS = {
    "05/13/2023 12:30": "a US or EU date.*dayfirst",
    "1682942415": "seconds since 1970.*unit='s'",
    "1612010112345": "milliseconds since 1970.*unit='ms'",  # Python would read the year 1612
    "1682942415000000": "microseconds since 1970",
    "1682942415000000000": "nanoseconds since 1970",
    "45047.521006944": "a serial date of Excel.*yyyy-mm-dd",
    "1.68294E+12": "shortened by a spreadsheet",
    "2023-05-01+02:00": "a date and time such as",
    "2023-05-01 12:30:15+02:00 UTC": "a date and time such as",
    "2023-05-01 12:30:15 CET": "a date and time such as",
}
UNCLEAR: list[tuple[str, Text, str]] = [
    ("actual_price", lambda cell: f"{int(float(cell)) + 1000:,}", "decimals or thousands"),
    ("description", lambda cell: f"{int(cell) % 5 + 1}.000", "decimals or thousands"),
    ("description", lambda cell: f"{int(cell) + 100:.1E}", f"an {COLUMNS['description'].range_in_words}$"),
    ("actual_price", "{} \ufffd".format, "not UTF-8.* iconv -f WINDOWS-1252"),
    ("recommended_price", "{}%".format, f"a {COLUMNS['actual_price'].range_in_words}$"),
    ("recommended_price", "\u2212{}".format, "a number above 0"),
    *(("created_at", always(moment), reason) for moment, reason in MOMENTS.items()),
]


@pytest.mark.parametrize(("column", "change", "reason"), UNCLEAR)
def test_cells_that_could_mean_two_things_are_bad_and_the_reason_says_what_to_do(
    tmp_path: Path, column: str, change: Text, reason: str
) -> None:
    found = check(write(tmp_path / "csv", cells(column, change)))
    file = found["reservations" if column == "created_at" else "vehicles"]
    assert file.num_bad == file.num_rows_in_file
    for problem in file.problems:
        assert problem.column == column
        assert re.search(reason, problem.reason)


DECIMAL_COMMAS = cells(PRICES, grouped("", ","))
DOLLARS = cells(PRICES, grouped(",", ".", "${}"))
WHOLE = cells(PRICES, always("60"))
LATER: dict[str, tuple[Frames, Frames, bool]] = {
    "thousands": (cells(PRICES, lambda cell: f"{cell[:2]}.5"), cells(PRICES, grouped(",", ".")), True),
    "floats": (FRAMES, cells("num_images", "{}.0".format), True),
    "decimal commas after whole numbers": (WHOLE, DECIMAL_COMMAS, True),
    "decimal commas after points": (FRAMES, DECIMAL_COMMAS, False),
    "points after decimal commas": (DECIMAL_COMMAS, FRAMES, False),
    "plain after dollars": (DOLLARS, FRAMES, False),
    "dollars after plain": (FRAMES, DOLLARS, False),
    "either mark after whole numbers": (WHOLE, cells(PRICES, always("1,590")), False),
    "words after 0 and 1": (FRAMES, cells("technology", always("true")), False),
}


@pytest.mark.parametrize(("first", "then", "is_read"), LATER.values(), ids=LATER)
def test_a_later_block_is_read_like_the_first_or_is_bad(
    tmp_path: Path, first: Frames, then: Frames, is_read: bool
) -> None:
    num_copies = BLOCK_CHARS // len(PLAIN)
    copies = [first["vehicles"]] * num_copies + [then["vehicles"]] * num_copies
    vehicles = pd.concat(copies, ignore_index=True)
    vehicles["vehicle_id"] = (vehicles.index + 1).astype(str)
    file = check(write(tmp_path / "csv", FRAMES | {"vehicles": vehicles}, ";"))["vehicles"]
    last = VEHICLES.iloc[-1].astype(float).to_dict() | {"vehicle_id": len(vehicles)}
    assert (file.columns.iloc[-1].to_dict() == last) == is_read
    assert (file.num_bad == 0) == is_read


def test_a_file_of_another_name_is_pointed_at_and_two_of_one_name_or_a_folder_are_refused(
    source: SourceStore, tmp_path: Path
) -> None:
    path = write_csvs(tmp_path / "csv") / "vehicles.csv"
    path.rename(path.with_name("Vehicles.xlsx"))
    with refused(source, r"vehicles.csv is missing; .* 'Vehicles.xlsx'"):
        seed(source, path.parent)
    path.mkdir()
    with refused(source, "vehicles.csv is a directory"):
        seed(source, path.parent)
    path.rmdir()
    write_csvs(path.parent)
    path.with_name("vehicles.csv.gz").write_bytes(gzip.compress(path.read_bytes()))
    with refused(source, "vehicles.csv and vehicles.csv.gz are both in .*remove"):
        seed(source, path.parent)
    path.unlink()
    assert seed(source, path.parent).vehicles_added == 2


def test_the_command_says_what_it_assumed(tmp_path: Path) -> None:
    write(tmp_path / "data", cells(PRICES, grouped(".", ",")), ";")
    said = command(tmp_path, "seed", "--db", "x.db").stdout
    assert "vehicles.csv: read ';' as separator; vehicles.csv: actual_price: a decimal comma" in said
    assert "reservations.csv: read ';' as separator" in report(tmp_path, "seed", "--db", "y.db")["assumed"]
