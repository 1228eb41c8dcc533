"""Seeding: the files' good rows end in the database, once, and bad rows where people find them."""

import csv
import gzip
from contextlib import closing
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import text

from tests.factories import make_vehicle
from tests.vroom_features.files import (
    RESERVATION_HEADER,
    VEHICLE_HEADER,
    booking_lines,
    vehicle_line,
    write_csvs,
)
from tests.vroom_features.stores import contents, on_both, rows
from vroom_features.database.vehicles import SourceStore
from vroom_features.errors import DataContractError
from vroom_features.ingest.seed import SeedReport, seed

NOW = datetime(2024, 5, 1, tzinfo=UTC)


def counts(report: SeedReport, noun: str, *names: str) -> list[int]:
    return [
        getattr(report, f"{noun}_{name}") for name in names or ("added", "updated", "unchanged", "removed")
    ]


def rejected(tmp_path: Path, name: str) -> list[list[str]]:
    (path,) = tmp_path.rglob(f"quarantine/{name}.rejected.csv")
    with path.open(newline="") as file:
        return list(csv.reader(file))[1:]


@on_both
def test_a_seed_brings_the_files_in(source: SourceStore, tmp_path: Path) -> None:
    report = seed(source, write_csvs(tmp_path / "csv"))
    assert counts(report, "vehicles") == [2, 0, 0, 0]
    assert report.reservations_added == 2
    vehicle = source.get_vehicle(1)
    assert vehicle is not None
    assert (vehicle.source, vehicle.actual_price, vehicle.num_reservations) == ("csv", 45.5, 2)
    assert source.get_vehicle(2).num_reservations == 0  # type: ignore[union-attr]


def test_progress_reaches_the_end_of_every_step(source: SourceStore, tmp_path: Path) -> None:
    seen: dict[str, list[tuple[int, int]]] = {}

    def progress(step: str, done: int, total: int) -> None:
        seen.setdefault(step, []).append((done, total))

    seed(source, write_csvs(tmp_path / "csv"), progress=progress)
    assert list(seen) == ["reading vehicles.csv", "reading reservations.csv", "writing reservations"]
    for steps in seen.values():
        assert steps == sorted(steps)
        assert steps[-1][0] == steps[-1][1]


@on_both
def test_the_same_rows_change_nothing_in_whatever_order(source: SourceStore, tmp_path: Path) -> None:
    seed(source, write_csvs(tmp_path / "a"))
    before = source.changes_since(0).change_number
    assert seed(source, tmp_path / "a").is_unchanged
    turned = write_csvs(
        tmp_path / "b",
        (vehicle_line(2), vehicle_line(1)),
        ("1,2023-01-02T10:00:00Z", " 1 ,2023-01-01 11:00:00+01:00"),
    )
    report = seed(source, turned)
    assert report.is_unchanged
    assert source.changes_since(0).change_number == before


def test_equal_bookings_are_as_many_as_the_file_has(tmp_path: Path) -> None:
    with closing(SourceStore.open(f"sqlite:///{tmp_path / 'vroom.db'}")) as source:
        for number, count in enumerate((300, 298, 301)):
            booked = ["1,2023-05-01 10:00:00"] * count
            files = write_csvs(tmp_path / str(number), [vehicle_line(1)], booked)
            report = seed(source, files, allow_removals=True)
            assert source.count_vehicles().reservations == count
            assert seed(source, files).is_unchanged
        assert (report.reservations_added, report.reservations_removed) == (3, 0)


@on_both
def test_a_changed_file_updates_adds_and_removes(source: SourceStore, tmp_path: Path) -> None:
    seed(
        source,
        write_csvs(tmp_path / "a", map(vehicle_line, (1, 2, 3)), booking_lines([(1, 0), (2, 0), (3, 0)])),
    )
    old = {i: source.get_vehicle(i).row_version for i in (1, 2)}  # type: ignore[union-attr]
    lines = [vehicle_line(1, actual_price=99), vehicle_line(2), vehicle_line(4)]
    files = write_csvs(tmp_path / "b", lines, booking_lines([(1, 0), (2, 0), (2, 1)]))
    report = seed(source, files, allow_removals=True)
    assert counts(report, "vehicles") == [1, 1, 1, 1]
    assert counts(report, "reservations", "added", "unchanged", "removed") == [1, 2, 1]
    assert source.get_vehicle(3) is None
    for vehicle_id, version in old.items():  # one has another price, the other one more booking
        assert source.get_vehicle(vehicle_id).row_version > version  # type: ignore[union-attr]


@on_both
def test_typed_in_vehicles_stay_and_can_be_booked(source: SourceStore, tmp_path: Path) -> None:
    saved = source.save_vehicle(make_vehicle(), saved_at=NOW).vehicle
    report = seed(source, write_csvs(tmp_path / "csv", reservations=[f"{saved.vehicle_id},2023-01-01"]))
    assert report.reservations_added == 1
    booked = source.get_vehicle(saved.vehicle_id)
    assert booked is not None
    assert booked.num_reservations == 1
    assert booked.row_version > saved.row_version


def test_a_file_that_takes_a_typed_in_vehicles_id_is_refused(source: SourceStore, tmp_path: Path) -> None:
    vehicle_id = source.save_vehicle(make_vehicle(), saved_at=NOW).vehicle.vehicle_id
    with source.engine.begin() as connection:
        connection.execute(text(f"UPDATE vehicles SET vehicle_id = 7 WHERE vehicle_id = {vehicle_id}"))
    with pytest.raises(DataContractError, match="vehicle_id 7 belongs to a vehicle that was typed in"):
        seed(source, write_csvs(tmp_path / "csv", [vehicle_line(1), vehicle_line(7)]))
    assert source.get_vehicle(1) is None


def test_bad_rows_that_cannot_be_written_down_refuse_the_file_and_name_the_folder(
    source: SourceStore, tmp_path: Path
) -> None:
    quarantine = tmp_path / "quarantine"
    quarantine.touch()
    seed(source, write_csvs(tmp_path / "good"), quarantine_dir=quarantine)
    before = contents(source)
    bad = write_csvs(tmp_path / "bad", [*GOOD, vehicle_line(900, actual_price=-1)])
    with pytest.raises(DataContractError, match=r"its 1 bad rows cannot.*make \S+quarantine a folder"):
        seed(source, bad, quarantine_dir=quarantine)
    assert contents(source) == before


def rewrite(folder: Path, name: str, change: Any) -> None:
    path = folder / f"{name}.csv"
    path.write_bytes(change(path.read_bytes()))


GOOD = [vehicle_line(i) for i in range(1, 200)]

BAD_CELLS = [
    *[
        ("vehicle_id", vehicle_line(cell))
        for cell in ("", "x", 0, -4, 10**30, 10**9 + 1, "1000.5", "0x3E8", 1)
    ],
    *[("num_images", vehicle_line(1000, num_images=cell)) for cell in ("0X1", "2.5", "\u0663")],
    *[
        ("actual_price", vehicle_line(1000, actual_price=cell))
        for cell in (-1, 0, "nan", "inf", "-inf", "1e308", "1e999", '"12,5"')
    ],
    ("technology", vehicle_line(1000, technology=2)),
    ("street_parked", vehicle_line(1000, street_parked="true")),
    ("description", vehicle_line(1000, description=-1)),
    ("", "1000,1,45"),
    ("", f"{vehicle_line(1000)},9"),
]


@pytest.mark.parametrize(("column", "line"), BAD_CELLS)
def test_a_bad_row_is_set_aside_with_its_line_and_the_rest_comes_in(
    source: SourceStore, tmp_path: Path, column: str, line: str
) -> None:
    lines = [*GOOD[:50], line, *GOOD[50:]]
    report = seed(source, write_csvs(tmp_path / "csv", lines))
    assert (report.vehicles_added, report.vehicles_quarantined) == (199, 1)
    ((line_number, named, _, reason),) = rejected(tmp_path, "vehicles")
    assert (int(line_number), named) == (52, column)
    assert reason


MOMENTS = ["", "soon", "2023-02-30 10:00:00", "2023-01-01 25:00:00", "12/31/2023", "2023-01-01 10:00:00+2"]
MOMENTS += ["0000-01-01 10:00:00", "0001-01-01 00:00:00+01:00", "9999-12-31 23:59:59-01:00"]


@pytest.mark.parametrize("moment", MOMENTS)
def test_a_bad_time_is_set_aside(source: SourceStore, tmp_path: Path, moment: str) -> None:
    bookings = [*booking_lines([(1, n) for n in range(150)]), f"1,{moment}"]
    report = seed(source, write_csvs(tmp_path / "csv", reservations=bookings))
    assert (report.reservations_added, report.reservations_quarantined) == (150, 1)
    assert rejected(tmp_path, "reservations")[0][:3] == ["152", "created_at", moment]


@on_both
def test_times_of_every_form_are_read_in_one_file(source: SourceStore, tmp_path: Path) -> None:
    forms = ["2023-05-01 10:00", "2023-05-01T10:00:00Z", "2023-05-01T12:00+02:00", " 2023-05-01 10 "]
    forms += ["2023-05-01 05:30:00.000-0430", "2023-05-01 11:00:00.0+01", "2023-05-01 10:00:00.000000"]
    seed(source, write_csvs(tmp_path / "csv", reservations=[f"1,{moment}" for moment in forms]))
    counted = "SELECT COUNT(*), COUNT(DISTINCT created_at) FROM reservations"
    assert rows(source, counted) == [(len(forms), 1)]


def test_a_booking_of_an_unknown_vehicle_is_set_aside(source: SourceStore, tmp_path: Path) -> None:
    bookings = [f"{10**15},2023-01-01", *booking_lines([(1, n) for n in range(150)]), "3,2023-01-01"]
    report = seed(source, write_csvs(tmp_path / "csv", reservations=bookings), max_bad_share=0.05)
    assert (report.reservations_added, report.reservations_quarantined) == (150, 2)
    assert [line[0] for line in rejected(tmp_path, "reservations")] == ["2", "153"]


def test_lines_are_counted_through_blank_lines_wherever_they_are(source: SourceStore, tmp_path: Path) -> None:
    folder = write_csvs(tmp_path / "csv", [*GOOD[:120], "", vehicle_line(500, actual_price=-3)])
    rewrite(folder, "vehicles", lambda content: b"\n\r\n" + content)
    report = seed(source, folder)
    assert (report.vehicles_added, report.vehicles_quarantined) == (120, 1)
    assert rejected(tmp_path, "vehicles")[0][0] == str(3 + 120 + 1 + 1)


STRAY_QUOTES = [
    lambda lines: [*lines[:1000], '1,"2023-01-01', *lines[1001:]],
    lambda lines: [*lines[:1000], '1,2023-01-01,"x', *lines[1001:]],
    lambda lines: [*lines[:1000], '1,"2023-01-01', *lines[1001:1500], '1,"2023-01-01', *lines[1501:]],
    lambda lines: [f"{line}," for line in lines[:1000]] + ['1,2023-01-01,"12 seats'] + lines[1001:],
    lambda lines: [f"{line},x" for line in lines[:1000]] + ['1,2023-01-01,"12', '5"'] + lines[1002:],
]


@pytest.mark.parametrize("make", STRAY_QUOTES)
@pytest.mark.parametrize("end", ["\n", "\r"])
def test_a_quote_that_takes_in_the_next_lines_refuses_the_file_by_its_line(
    source: SourceStore, tmp_path: Path, make: Any, end: str
) -> None:
    bookings = [RESERVATION_HEADER, *booking_lines([(1, n) for n in range(1600)])]
    folder = write_csvs(tmp_path / "csv", reservations=bookings[1:])
    seed(source, folder)
    before = contents(source)
    lines = make(bookings) + bookings[1:]
    (folder / "reservations.csv").write_text(end.join(lines), newline="")
    with pytest.raises(DataContractError, match=r"line 1001: a quoted cell goes on in the next line"):
        seed(source, folder)
    assert contents(source) == before


def test_too_many_bad_rows_refuse_the_file_and_leave_the_database(
    source: SourceStore, tmp_path: Path
) -> None:
    seed(source, write_csvs(tmp_path / "a"))
    before = contents(source)
    with pytest.raises(DataContractError, match="2 of 10 rows"):
        seed(
            source,
            write_csvs(
                tmp_path / "b",
                [*GOOD[:8], vehicle_line(900, actual_price=-1), vehicle_line(901, actual_price=0)],
            ),
        )
    assert contents(source) == before
    assert len(rejected(tmp_path, "vehicles")) == 2


@pytest.mark.parametrize(
    "change",
    [
        lambda content: b"\xef\xbb\xbf" + content,
        lambda content: content.replace(b"\n", b"\r\n"),
        lambda content: content.rstrip(b"\n"),
        lambda content: content.replace(b"\n", b"\n\n"),
        gzip.compress,
        lambda content: b"\n".join(line + b",\xe9t\xe9" for line in content.splitlines()),
        lambda content: b"\n".join(b'"a ""b""",' + line for line in content.splitlines()),
        lambda content: b"\n".join(b",".join(reversed(line.split(b","))) for line in content.splitlines()),
    ],
    ids=["bom", "crlf", "no last newline", "blank lines", "gzip", "latin-1", "quoted", "reordered"],
)
@pytest.mark.parametrize("name", ["vehicles", "reservations"])
def test_the_same_rows_written_another_way_are_the_same(
    source: SourceStore, tmp_path: Path, name: str, change: Any
) -> None:
    folder = write_csvs(tmp_path / "csv")
    seed(source, folder)
    before = contents(source)
    rewrite(folder, name, change)
    assert seed(source, folder).is_unchanged
    assert contents(source) == before


def test_a_zipped_file_is_found_by_its_name(source: SourceStore, tmp_path: Path) -> None:
    folder = write_csvs(tmp_path / "csv")
    zipped = gzip.compress((folder / "vehicles.csv").read_bytes())
    (folder / "vehicles.csv").unlink()
    (folder / "vehicles.csv.gz").write_bytes(zipped)
    assert seed(source, folder).vehicles_added == 2


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "is empty"),
        (b"vehicle_id,technology\n1,1\n", "missing"),
        (b"vehicle_id," + vehicle_line(1).encode(), "missing"),
        (f"{VEHICLE_HEADER},created_at,vehicle_id\n".encode(), "more than once"),
        (gzip.compress(b"vehicle_id\n")[:-9], "cannot be read"),
        ("vehicle_id\n1\n".encode("utf-16"), "missing"),
        (b"\x00\x01\x02\xff" * 100, "missing"),
        (None, "is missing"),
        (Path(), "is a directory"),
    ],
    ids=[
        "empty",
        "too few columns",
        "no header",
        "doubled",
        "cut off",
        "UTF-16",
        "binary",
        "absent",
        "a directory",
    ],
)
@pytest.mark.parametrize("name", ["vehicles", "reservations"])
def test_what_is_no_such_file_is_refused_clearly(
    source: SourceStore, tmp_path: Path, name: str, content: bytes | Path | None, message: str
) -> None:
    seed(source, write_csvs(tmp_path / "a"))
    before = contents(source)
    folder = write_csvs(tmp_path / "b")
    path = folder / f"{name}.csv"
    path.unlink()
    if isinstance(content, bytes):
        path.write_bytes(content)
    elif content is not None:
        path.mkdir()
    with pytest.raises(DataContractError, match=message):
        seed(source, folder)
    assert contents(source) == before


def test_headers_alone_seed_an_empty_database_but_never_empty_a_full_one(
    source: SourceStore, tmp_path: Path
) -> None:
    empty = write_csvs(tmp_path / "empty", [], [])
    assert seed(source, empty).is_unchanged
    seed(source, write_csvs(tmp_path / "full"))
    before = contents(source)
    with pytest.raises(DataContractError, match="2 of the 2 vehicles in the database"):
        seed(source, empty)
    with pytest.raises(DataContractError, match="2 of the 2 reservations in the database"):
        seed(source, write_csvs(tmp_path / "half", reservations=[]))
    assert contents(source) == before
    assert seed(source, empty, allow_removals=True).vehicles_removed == 2
