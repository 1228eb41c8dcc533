"""CSV files as people export them: what can be read in one way is, and said; the rest is refused by name."""

import csv
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
from vroom_features.ingest.contract import RESERVATION_COLUMNS, VEHICLE_COLUMNS, CheckedFile
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
PRICES = ["actual_price", "recommended_price"]
Frames = dict[str, pd.DataFrame]
Text = Callable[[str], str]


def grouped(mark: str, point: str, around: str = "{}") -> Text:
    """Write a number with two decimals and marks of thousands."""
    marks = str.maketrans(",.", mark + point if mark else "\0" + point)
    return lambda cell: around.format(f"{float(cell):,.2f}".translate(marks).replace("\0", ""))


def cells(column: str | list[str], change: Text, of: Frames = FRAMES) -> Frames:
    """Return the frames with the cells of some columns written otherwise."""
    names = [column] if isinstance(column, str) else column
    return {
        file: frame.assign(**{name: frame[name].map(change) for name in names if name in frame})
        for file, frame in of.items()
    }


def write(
    folder: Path, frames: Frames, change: Callable[[str], str | bytes] = str, **options: object
) -> Path:
    folder.mkdir(exist_ok=True)
    for name, frame in frames.items():
        text = change(frame.to_csv(index=False, **options))  # type: ignore[call-overload]
        (folder / f"{name}.csv").write_bytes(text.encode() if isinstance(text, str) else text)
    return folder


def check(folder: Path) -> dict[str, CheckedFile]:
    columns = {"vehicles": VEHICLE_COLUMNS, "reservations": RESERVATION_COLUMNS}
    return {name: check_file(folder / f"{name}.csv", each) for name, each in columns.items()}


def named(frames: Frames, change: Text) -> Frames:
    return {file: frame.rename(columns=change) for file, frame in frames.items()}


def by_line(change: Text) -> Text:
    return lambda text: "".join(change(line) for line in text.splitlines(keepends=True))


NBSP, NARROW, APOSTROPHE = "\u00a0", "\u202f", "\u2019"
SEMICOLON = {"sep": ";"}
QUOTED = {"quoting": csv.QUOTE_ALL}
GERMAN = cells(PRICES, grouped(".", ","))
READ: dict[str, tuple[Frames, dict[str, object], Callable[[str], str | bytes], str]] = {
    "semicolon": (FRAMES, SEMICOLON, str, "vehicles.csv: read ';' as separator"),
    "tab": (FRAMES, {"sep": "\t"}, str, r"reservations.csv: read '\\t' as separator"),
    "bar": (FRAMES, {"sep": "|"}, str, r"read '\|' as separator"),
    "sep line": (FRAMES, SEMICOLON, lambda text: f"sep=;\n{text}", "';' as separator"),
    "sep line of a comma": (FRAMES, {}, lambda text: f'"sep=,"\r\n\r\n{text}', ""),
    "sep line of another mark": (FRAMES, {"sep": "^"}, lambda text: f"SEP=^\n{text}", r"'\^' as separator"),
    "sep line behind a mark": (FRAMES, SEMICOLON, lambda text: f"\ufeffsep=;\n{text}", "';'"),
    "UTF-16": (FRAMES, {}, lambda text: text.encode("utf-16"), "read as UTF-16"),
    "UTF-16 BE, tabs": (
        FRAMES,
        {"sep": "\t"},
        lambda t: b"\xfe\xff" + t.encode("utf-16-be"),
        "read as UTF-16",
    ),
    "UTF-32": (FRAMES, {}, lambda text: text.encode("utf-32"), "read as UTF-32"),
    "UTF-16 zipped": (FRAMES, {}, lambda text: gzip.compress(text.encode("utf-16")), "read as UTF-16"),
    "title case": (
        named(FRAMES, lambda n: n.replace("_", " ").title()),
        {},
        str,
        "read 'Vehicle Id' as vehicle_id",
    ),
    "upper case": (named(FRAMES, str.upper), {}, str, "'CREATED_AT' as created_at"),
    "dashes": (named(FRAMES, lambda name: name.replace("_", "-")), {}, str, "'vehicle-id' as vehicle_id"),
    "camel case": (named(FRAMES, lambda n: n.title().replace("_", "")), {}, str, "'VehicleId' as vehicle_id"),
    "blanks": (FRAMES, {}, lambda text: text.replace(",", " , "), ""),
    "hard blanks": (named(FRAMES, lambda name: f"{NBSP}{name} "), {}, str, ""),
    "carriage returns": (FRAMES, {}, lambda text: text.replace("\n", "\r"), ""),
    "trailing separators": (FRAMES, {}, by_line(lambda line: line.replace("\n", ",\n")), ""),
    "rows end in a separator": (
        FRAMES,
        {},
        lambda text: text.replace("\n", ",,\n").replace(",,\n", "\n", 1),
        "rows with empty cells behind the last column",
    ),
    "header ends in separators": (
        FRAMES,
        {},
        lambda text: text.replace("\n", ",,\n", 1),
        "empty cells behind",
    ),
    "empty rows": (FRAMES, {}, lambda text: text + ",,\n" * 9, "9 rows without any value left out"),
    "further columns": (
        {file: frame.assign(Notes="é;x", Owner=1) for file, frame in FRAMES.items()},
        {},
        lambda text: text.encode("latin-1"),
        "ignored 'Notes', 'Owner'",
    ),
    "floats": (
        cells(["vehicle_id", "num_images"], lambda cell: f"{cell}.0"),
        {},
        str,
        "num_images: a decimal point",
    ),
    "floats of Excel": (cells("technology", lambda c: f"{c}.0E+00"), {}, str, "technology: a decimal point"),
    "floats of NumPy": (
        cells("description", lambda c: f"{int(c):.18e}"),
        {},
        str,
        "description: a decimal point",
    ),
    "floats of Java": (
        cells("description", lambda c: f"{int(c)}.0"),
        SEMICOLON,
        str,
        "description: a decimal",
    ),
    "floats with a comma": (
        cells("num_images", lambda c: f"{c},0"),
        SEMICOLON,
        str,
        "num_images: a decimal comma",
    ),
    "decimal commas": (cells(PRICES, grouped("", ",")), SEMICOLON, str, "actual_price: a decimal comma"),
    "quoted decimal commas": (
        cells(PRICES, grouped("", ",")),
        QUOTED,
        str,
        "recommended_price: a decimal comma",
    ),
    "German": (GERMAN, SEMICOLON, str, r"actual_price: a decimal comma, '\.' as thousands mark"),
    "French": (cells(PRICES, grouped(NARROW, ",", "{} €")), SEMICOLON, str, "the currency sign '€'"),
    "hard blank": (cells(PRICES, grouped(NBSP, ",")), SEMICOLON, str, "as thousands mark"),
    "blank": (cells(PRICES, grouped(" ", ".")), {}, str, "' ' as thousands mark"),
    "Swiss": (cells(PRICES, grouped("'", ".", "CHF {}")), {}, str, "the currency sign 'CHF'"),
    "Swiss typed": (cells(PRICES, grouped(APOSTROPHE, ".")), {}, str, "as thousands mark"),
    "dollars": (
        cells(PRICES, grouped(",", ".", "${}")),
        {},
        str,
        r"',' as thousands mark, the currency sign '\$'",
    ),
    "euros behind": (cells(PRICES, grouped("", ".", "{}€")), {}, str, "the currency sign '€'"),
    "thousands": (
        cells("description", lambda cell: f"{int(cell):,}"),
        {},
        str,
        "description: ',' as thousands mark",
    ),
    "words": (
        cells("technology", lambda c: "TRUE" if c == "1" else "FALSE"),
        {},
        str,
        "technology: true and false",
    ),
    "yes": (
        cells("street_parked", lambda c: "yes" if c == "1" else "No"),
        {},
        str,
        "street_parked: true and",
    ),
    "zeros before": (cells("vehicle_id", lambda cell: f" 00{cell}"), {}, str, ""),
    **{
        f"time {form}": (cells("created_at", lambda _, form=form: form), {}, str, note)  # type: ignore[misc]
        for form, note in {
            "2023-05-01 12:30:15 UTC": "created_at: UTC written behind the time",
            "2023-05-01 12:30:15.000000 UTC": "created_at: UTC",
            "2023-05-01 12:30:15 +0000 UTC": "created_at: UTC",
            "2023-05-01T12:30:15 GMT": "created_at: UTC",
            "2023-05-01 14:30:15.0000000 +02:00": "",
            "2023-05-01T12:30:15.000000123Z": "moments cut to microseconds",
            "2023-05-01T12:30:15z": "created_at: UTC",
            "2023/05/01 12:30:15": "slashes in dates",
            "2023-05-01T12:30:15Z": "",
            "2023-05-01T14:30:15+02:00": "",
        }.items()
    },
}


@pytest.mark.parametrize(("frames", "options", "change", "note"), READ.values(), ids=READ)
def test_a_file_in_another_form_is_read_and_said_to_be(
    tmp_path: Path,
    frames: Frames,
    options: dict[str, object],
    change: Callable[[str], str | bytes],
    note: str,
) -> None:
    plain = check(write(tmp_path / "plain", FRAMES))
    found = check(write(tmp_path / "exported", frames, change, **options))
    for name, file in found.items():
        assert not file.problems
        assert not plain[name].notes
        pd.testing.assert_frame_equal(*(f.columns.reset_index(drop=True) for f in (file, plain[name])))
    said = "; ".join(f"{name}.csv: {said}" for name, file in found.items() for said in file.notes)
    assert re.search(note, said)
    assert bool(said) == bool(note)


WORKBOOK = io.BytesIO()
with zipfile.ZipFile(WORKBOOK, "w") as archive:
    archive.writestr("docProps/app.xml", "<Properties/>")
ZIPPED = io.BytesIO()
with zipfile.ZipFile(ZIPPED, "w") as archive:
    archive.writestr("vehicles.csv", "vehicle_id")
PLAIN = VEHICLES.to_csv(index=False)
TWO_CURRENCIES = VEHICLES.assign(
    actual_price="$" + VEHICLES["actual_price"], recommended_price="€" + VEHICLES["recommended_price"]
).to_csv(index=False)
FOREIGN: dict[str, tuple[str | bytes, str]] = {
    "workbook": (WORKBOOK.getvalue(), "is an Excel workbook; .*libreoffice .*vehicles.csv"),
    "old workbook": (b"\xd0\xcf\x11\xe0\xa1\xb1" + bytes(500), "is an old Excel workbook"),
    "zip": (ZIPPED.getvalue(), "is a zip archive; .*unzip"),
    "gzipped twice": (gzip.compress(gzip.compress(PLAIN.encode())), "gzipped twice.* gunzip"),
    "bzip2": (b"BZh91AY&SY", "is a bzip2,"),
    "parquet": (b"PAR1\x15\x04", r"is a Parquet file; .*read_parquet\('\S+'\).to_csv\('vehicles.csv'"),
    "json": ('\n[{"vehicle_id": 1}]', "is JSON; .*read_json"),
    "page": ("\ufeff\n<!DOCTYPE html><html>", "is an HTML page.* download"),
    "xml": ('<?xml version="1.0"?><Error><Code>AccessDenied</Code></Error>', "is an XML document"),
    "pdf": (b"%PDF-1.7\n", "is a PDF"),
    "pointer": (
        "version https://git-lfs.github.com/spec/v1\noid sha256:1\n",
        "Git LFS pointer.* git lfs pull",
    ),
    "UTF-16 without a mark": (PLAIN.encode("utf-16-le"), "UTF-16 without .* iconv -f UTF-16LE"),
    "UTF-16 BE without a mark": (PLAIN.encode("utf-16-be"), "UTF-16 without .* iconv -f UTF-16BE"),
    "NUL bytes": (PLAIN.replace("_", "\0"), "NUL bytes"),
    "header in Latin-1": (PLAIN.replace("num_images", "n\u00fcm").encode("latin-1"), "iconv -f WINDOWS-1252"),
    "near": (
        PLAIN.replace("vehicle_id", "vehicle").replace("num_images", "images"),
        "'vehicle' is near vehicle_id",
    ),
    "Nearly": (
        PLAIN.replace("num_images", "Num Image"),
        "missing; .*'Num Image' is near num_images: rename it",
    ),
    "twice": (
        PLAIN.replace("description", "description,Vehicle Id"),
        r"more than once: \['vehicle_id', 'Vehicle Id'\]",
    ),
    "currencies": (TWO_CURRENCIES, r"prices in \['\$', '€'\]; .*one currency"),
    "no header": ("".join(PLAIN.splitlines(keepends=True)[1:]), "columns .* are missing; got"),
}


@pytest.mark.parametrize(("content", "problem"), FOREIGN.values(), ids=FOREIGN)
def test_what_is_another_format_is_refused_by_its_name(
    tmp_path: Path, content: str | bytes, problem: str
) -> None:
    folder = write(tmp_path / "csv", FRAMES)
    (folder / "vehicles.csv").write_bytes(content.encode() if isinstance(content, str) else content)
    with pytest.raises(DataContractError, match=problem):
        check(folder)


UNCLEAR: dict[str, tuple[str, Text, str]] = {
    "either mark": ("actual_price", lambda cell: f"{int(float(cell)) + 1000:,}", "decimals or thousands"),
    "either point": ("description", lambda cell: f"{int(cell) % 5 + 1}.000", "decimals or thousands"),
    "hidden digits": (
        "description",
        lambda cell: f"{int(cell) + 100:.1E}",
        f"an {COLUMNS['description'].range_in_words}$",
    ),
    "Windows-1252": ("actual_price", lambda cell: f"{cell} \ufffd", "not UTF-8.* iconv -f WINDOWS-1252"),
    "percent": ("recommended_price", lambda cell: f"{cell}%", f"a {COLUMNS['actual_price'].range_in_words}$"),
    "unicode minus": ("recommended_price", lambda cell: f"\u2212{cell}", "a number above 0"),
    **{
        moment: ("created_at", lambda _, moment=moment: moment, reason)  # type: ignore[misc]
        for moment, reason in {
            "05/13/2023 12:30": "a US or EU date.*dayfirst",
            "13.05.2023": "a US or EU date",
            "1/2/23 3:04 PM": "a US or EU date",
            "1682942415": "seconds since 1970.*unit='s'",
            "1682942415.25": "seconds since 1970",
            "1682942415000": "milliseconds since 1970.*unit='ms'",
            "1612010112345": "milliseconds since 1970",
            "1682942415000000": "microseconds since 1970",
            "1682942415000000000": "nanoseconds since 1970",
            "45047.521006944": "a serial date of Excel.*yyyy-mm-dd",
            "1.68294E+12": "shortened by a spreadsheet",
            "2023-05-01+02:00": "a date and time such as",
            "2023-05-01 12:30:15+02:00 UTC": "a date and time such as",
            "2023-05-01 12:30:15 CET": "a date and time such as",
        }.items()
    },
}


@pytest.mark.parametrize(("column", "change", "reason"), UNCLEAR.values(), ids=UNCLEAR)
def test_cells_that_could_mean_two_things_are_bad_and_the_reason_says_what_to_do(
    tmp_path: Path, column: str, change: Text, reason: str
) -> None:
    found = check(write(tmp_path / "csv", cells(column, change)))
    file = found["reservations" if column == "created_at" else "vehicles"]
    assert file.num_bad == file.num_rows_in_file
    for problem in file.problems:
        assert problem.column == column
        assert re.search(reason, problem.reason)


def long(frames: Frames, num_copies: int) -> Frames:
    """Return the frames with more vehicles than a block of lines holds."""
    many = pd.concat([frames["vehicles"]] * num_copies, ignore_index=True)
    return {**frames, "vehicles": many.assign(vehicle_id=(many.index + 1).astype(str))}


NUM_COPIES = BLOCK_CHARS // len(PLAIN)
WHOLE = FRAMES | {"vehicles": VEHICLES.assign(actual_price="60", recommended_price="50")}
SMALL = cells(PRICES, lambda cell: f"{cell[:2]}.5")
LATER: dict[str, tuple[Frames, Frames, bool]] = {
    "thousands": (SMALL, cells(PRICES, grouped(",", ".")), True),
    "floats": (FRAMES, cells("num_images", lambda cell: f"{cell}.0"), True),
    "decimal commas after whole numbers": (WHOLE, cells(PRICES, grouped("", ",")), True),
    "decimal commas after points": (FRAMES, cells(PRICES, grouped("", ",")), False),
    "points after decimal commas": (cells(PRICES, grouped("", ",")), FRAMES, False),
    "plain after dollars": (cells(PRICES, grouped(",", ".", "${}")), FRAMES, False),
    "dollars after plain": (FRAMES, cells(PRICES, grouped(",", ".", "${}")), False),
    "either mark after whole numbers": (WHOLE, cells(PRICES, lambda _: "1,590"), False),
    "words after 0 and 1": (FRAMES, cells("technology", lambda _: "true"), False),
}


@pytest.mark.parametrize(("first", "then", "is_read"), LATER.values(), ids=LATER)
def test_a_later_block_is_read_like_the_first_or_is_bad(
    tmp_path: Path, first: Frames, then: Frames, is_read: bool
) -> None:
    vehicles = pd.concat([long(first, NUM_COPIES)["vehicles"], long(then, NUM_COPIES)["vehicles"]])
    vehicles["vehicle_id"] = [str(n) for n in range(1, len(vehicles) + 1)]
    file = check(write(tmp_path / "csv", FRAMES | {"vehicles": vehicles}, sep=";"))["vehicles"]
    last = VEHICLES.iloc[-1].astype(float).to_dict() | {"vehicle_id": len(vehicles)}
    assert (file.columns.iloc[-1].to_dict() == last) == is_read
    assert (file.num_bad == 0) == is_read


def test_a_bad_cell_is_bad_alone_whatever_its_bytes(source: SourceStore, tmp_path: Path) -> None:
    rows = ["1,2023-01-01,caf\u00e9" + "\u00e9" * 200, "1,2023\0", "\u00e9,2023-01-01", "1,\u00e92023-01-01"]
    rows += ["1" + "2,\u00e9" * 60]
    for row in rows:
        folder = write_csvs(tmp_path / "csv", reservations=["1,2023-01-01"] * 500 + [row])
        text = (folder / "reservations.csv").read_text()
        (folder / "reservations.csv").write_bytes(text.encode("latin-1"))
        report = seed(source, folder)
        assert (report.reservations_quarantined, source.count_vehicles().fleet) == (1, 2)


def test_the_refusal_of_a_file_shows_what_most_of_its_bad_rows_have(
    source: SourceStore, tmp_path: Path
) -> None:
    folder = write_csvs(tmp_path / "csv", reservations=["1,x", *["1,05/01/2023"] * 9])
    with refused(
        source, "10 of 10 rows .*VROOM_MAX_BAD_SHARE.* 9 like line 3: created_at '05/01/2023': .*US or EU"
    ):
        seed(source, folder)


def test_a_file_of_another_name_is_pointed_at_and_two_of_one_name_are_refused(
    source: SourceStore, tmp_path: Path
) -> None:
    path = write_csvs(tmp_path / "csv") / "vehicles.csv"
    path.rename(path.with_name("Vehicles.xlsx"))
    with refused(source, r"vehicles.csv is missing; .* 'Vehicles.xlsx'"):
        seed(source, path.parent)
    write_csvs(path.parent)
    path.with_name("vehicles.csv.gz").write_bytes(gzip.compress(path.read_bytes()))
    with refused(source, "vehicles.csv and vehicles.csv.gz are both in .*remove"):
        seed(source, path.parent)


def test_the_command_says_what_it_assumed(tmp_path: Path) -> None:
    write(tmp_path / "data", GERMAN, sep=";")
    said = command(tmp_path, "seed", "--db", "x.db").stdout
    assert "vehicles.csv: read ';' as separator; vehicles.csv: actual_price: a decimal comma" in said
    assert "reservations.csv: read ';' as separator" in report(tmp_path, "seed", "--db", "y.db")["assumed"]


FILES = Path(__file__).parents[3] / "shared" / "data" / "real_files"


@pytest.mark.skipif(not FILES.is_dir(), reason="real files are not here")
def test_real_files_are_read_or_refused_by_name(source: SourceStore, tmp_path: Path) -> None:
    for folder in sorted(FILES.iterdir()):
        if folder.name == "html_error":
            with pytest.raises(DataContractError, match="an HTML page"):
                seed(source, folder, allow_removals=True)
        else:
            found = seed(source, folder, allow_removals=True, quarantine_dir=tmp_path)
            assert found.vehicles_quarantined == (folder.name == "one_bad_vehicle")
