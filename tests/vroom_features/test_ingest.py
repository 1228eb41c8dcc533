"""Seeding: the files' good rows end in the database, once, and bad rows where people find them."""

import csv
import gzip
from collections.abc import Callable
from datetime import UTC, date, datetime
from itertools import product
from pathlib import Path

import pytest

from tests.vroom_features.files import HEADERS, booking_lines, vehicle_line, write_csvs
from tests.vroom_features.stores import arrive, contents, counts, on_both, refused, rows
from vroom_features.database.vehicles import SourceStore
from vroom_features.ingest.seed import seed
from vroom_features.watch import Watch


def rejected(tmp_path: Path, name: str) -> list[list[str]]:
    (path,) = tmp_path.rglob(f"quarantine/{name}.rejected.csv")
    with path.open(newline="") as file:
        return list(csv.reader(file))[1:]


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
def test_a_changed_file_updates_adds_and_removes(source: SourceStore, tmp_path: Path) -> None:
    files = write_csvs(tmp_path, map(vehicle_line, (1, 2, 3)), booking_lines([(1, 0), (2, 0), (3, 0)]))
    assert counts(seed(source, files)) == {"vehicles_added": 3, "reservations_added": 3}
    old = source.get_vehicles((1, 2))
    lines = [vehicle_line(1, actual_price=99), vehicle_line(2), vehicle_line(4)]
    write_csvs(files, lines, booking_lines([(1, 0), (2, 0), (2, 1)]))
    assert counts(seed(source, files, allow_removals=True)) == {
        "vehicles_added": 1,
        "vehicles_updated": 1,
        "vehicles_removed": 1,
        "reservations_added": 1,
        "reservations_removed": 1,
    }
    new = source.get_vehicles((1, 2, 3, 4))
    found = [(row.vehicle_id, row.source, row.actual_price, row.num_reservations) for row in new]
    assert found == [(1, "csv", 99, 1), (2, "csv", 45.5, 2), (4, "csv", 45.5, 0)]
    for before, after in zip(old, new, strict=False):  # one has another price, the other one more booking
        assert after.row_version > before.row_version


def test_every_booking_of_one_moment_counts_and_is_known_again(source: SourceStore, tmp_path: Path) -> None:
    booked = [(2, 0), (1, 1), *[(1, 0)] * 200, (2, 0)]
    files = write_csvs(tmp_path, map(vehicle_line, (1, 2)), booking_lines(booked))
    assert counts(seed(source, files)) == {"vehicles_added": 2, "reservations_added": 203}
    write_csvs(files, map(vehicle_line, (1, 2)), booking_lines([*booked, (2, 0)]))
    assert counts(seed(source, files)) == {"reservations_added": 1}
    assert [row.num_reservations for row in source.get_vehicles((1, 2))] == [201, 3]


def test_a_file_that_takes_a_typed_in_vehicles_id_is_refused(source: SourceStore, tmp_path: Path) -> None:
    files = write_csvs(tmp_path / "csv", [vehicle_line(1), vehicle_line(arrive(source))])
    with refused(source, "expected an integer, 1 to 1,000,000,000"):
        seed(source, files)


def test_bad_rows_that_cannot_be_listed_refuse_the_file(seeded: SourceStore, tmp_path: Path) -> None:
    bad = write_csvs(tmp_path / "bad", [*GOOD, vehicle_line(900, actual_price=-1)])
    (tmp_path / "quarantine").touch()
    with refused(seeded, r"its 1 bad rows cannot.*make \S+quarantine a folder"):
        seed(seeded, bad)


Change = Callable[[bytes], bytes]


def rewrite(path: Path, change: Change) -> None:
    path.write_bytes(change(path.read_bytes()))


GOOD = [vehicle_line(i) for i in range(1, 200)]

BAD_CELLS: list[tuple[str, dict[str, object]]] = [
    *[("vehicle_id", {"vehicle_id": cell}) for cell in ("", "x", 0, -4, 10**30, 10**9 + 1)],
    *[("vehicle_id", {"vehicle_id": cell}) for cell in ("1000.5", "0x3E8", 1)],
    *[("num_images", {"num_images": cell}) for cell in ("0X1", "2.5", "\u0663")],
    *[("actual_price", {"actual_price": cell}) for cell in (-1, 0, "nan", "inf", "-inf", "1e308", "1e999")],
    ("actual_price", {"actual_price": '"12,5"'}),
    ("technology", {"technology": 2}),
    ("street_parked", {"street_parked": "true"}),
    ("description", {"description": -1}),
]
MOMENTS = ["", "soon", "2023-02-30 10:00:00", "2023-01-01 25:00:00", "12/31/2023", "2023-01-01 10:00:00+2"]
MOMENTS += ["0000-01-01 10:00:00", "0001-01-01 00:00:00+01:00", "9999-12-31 23:59:59-01:00"]


def test_too_many_bad_rows_refuse_the_file_and_those_that_may_be_are_set_aside_by_line_and_column(
    source: SourceStore, tmp_path: Path
) -> None:
    bad = [vehicle_line(**({"vehicle_id": 1000 + n} | cells)) for n, (_, cells) in enumerate(BAD_CELLS)]
    bad += ["2000,1,45", f"{vehicle_line(2001)},9"]
    bookings = [*booking_lines([(1, n) for n in range(150)]), *(f"1,{moment}" for moment in MOMENTS)]
    files = write_csvs(tmp_path / "csv", [*GOOD[:50], *bad, *GOOD[50:]], bookings)
    with refused(source, f"{len(bad)} of {199 + len(bad)} rows"):
        seed(source, files)
    assert len(rejected(tmp_path, "vehicles")) == len(bad)
    assert counts(seed(source, files, max_bad_share=0.2)) == {
        "vehicles_added": 199,
        "vehicles_quarantined": len(bad),
        "reservations_added": 150,
        "reservations_quarantined": len(MOMENTS),
    }
    found = rejected(tmp_path, "vehicles")
    columns = [column for column, _ in BAD_CELLS] + ["", ""]
    assert [row[:2] for row in found] == [[str(52 + n), column] for n, column in enumerate(columns)]
    assert all(reason for *_, reason in found)
    expected = [[str(152 + n), "created_at", moment] for n, moment in enumerate(MOMENTS)]
    assert [row[:3] for row in rejected(tmp_path, "reservations")] == expected


def test_bookings_of_impossible_times_are_bad_rows_and_make_the_watch_no_longer(
    source: SourceStore, tmp_path: Path
) -> None:
    impossible = ["1970-01-01 00:00:00", "1999-12-31 23:59:59", "2023-06-02 12:00:01", "2203-01-07"]
    bookings = [*booking_lines([(1, n) for n in range(150)]), "1,2000-01-01", "1,2023-06-02 12:00"]
    folder = write_csvs(tmp_path / "csv", reservations=[*bookings, *(f"1,{each}" for each in impossible)])
    report = seed(source, folder, max_bad_share=0.05, now=datetime(2023, 6, 1, 12, tzinfo=UTC))
    assert (report.reservations_added, report.reservations_quarantined) == (152, 4)
    assert source.watch() == Watch(8554, date(2023, 6, 2))
    found = rejected(tmp_path, "reservations")
    assert [value for _, _, value, _ in found] == impossible
    assert {reason.partition(", ")[2] for *_, reason in found} == {"from 2000-01-01 to 2023-06-02 12:00"}


def test_bookings_of_ids_that_no_database_holds_are_bad_rows(source: SourceStore, tmp_path: Path) -> None:
    impossible = [str(2**63), str(2**70), "0", "-1"]
    bookings = [*booking_lines([(1, n) for n in range(150)]), *(f"{each},2023-05-01" for each in impossible)]
    report = seed(source, write_csvs(tmp_path / "csv", reservations=bookings), max_bad_share=0.05)
    assert (report.reservations_added, report.reservations_quarantined) == (150, 4)
    assert [value for _, _, value, _ in rejected(tmp_path, "reservations")] == impossible


@on_both
def test_times_of_every_form_are_read_in_one_file(source: SourceStore, tmp_path: Path) -> None:
    forms = ["2023-05-01 10:00", "2023-05-01T10:00:00Z", "2023-05-01T12:00+02:00", " 2023-05-01 10 "]
    forms += ["2023-05-01 05:30:00.000-0430", "2023-05-01 11:00:00.0+01", "2023-05-01 10:00:00.000000"]
    seed(source, write_csvs(tmp_path / "csv", reservations=[f"1,{moment}" for moment in forms]))
    counted = "SELECT COUNT(*), COUNT(DISTINCT created_at) FROM reservations"
    assert rows(source, counted) == [(len(forms), 1)]


@pytest.mark.parametrize(
    "row",
    [
        "1,2023-01-01,caf\u00e9" + "\u00e9" * 200,
        "1,2023\0",
        "1,\u00e92023-01-01",
        "12,\u00e9" + "2,\u00e9" * 60,
    ],
)
def test_a_bad_row_is_bad_alone_whatever_its_bytes(source: SourceStore, tmp_path: Path, row: str) -> None:
    folder = write_csvs(tmp_path / "csv", reservations=["1,2023-01-01"] * 500 + [row])
    path = folder / "reservations.csv"
    path.write_bytes(path.read_text().encode("latin-1"))
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


def test_a_booking_of_an_unknown_vehicle_is_set_aside(source: SourceStore, tmp_path: Path) -> None:
    bookings = [f"{10**15},2023-01-01", *booking_lines([(1, n) for n in range(150)]), "3,2023-01-01"]
    report = seed(source, write_csvs(tmp_path / "csv", reservations=bookings), max_bad_share=0.05)
    assert (report.reservations_added, report.reservations_quarantined) == (150, 2)
    assert [line[0] for line in rejected(tmp_path, "reservations")] == ["2", "153"]


def test_lines_are_counted_through_blank_lines_wherever_they_are(source: SourceStore, tmp_path: Path) -> None:
    folder = write_csvs(tmp_path / "csv", [*GOOD[:120], "", vehicle_line(500, actual_price=-3)])
    rewrite(folder / "vehicles.csv", lambda content: b"\n\r\n" + content)
    assert counts(seed(source, folder))["vehicles_added"] == 120
    assert rejected(tmp_path, "vehicles")[0][0] == str(3 + 120 + 1 + 1)


STRAY_QUOTES = [
    lambda lines: [*lines[:1000], '1,"2023-01-01', *lines[1001:]],
    lambda lines: [*lines[:1000], '1,2023-01-01,"x', *lines[1001:]],
    lambda lines: [*lines[:1000], '1,"2023-01-01', *lines[1001:1500], '1,"2023-01-01', *lines[1501:]],
    lambda lines: [f"{line}," for line in lines[:1000]] + ['1,2023-01-01,"12 seats'] + lines[1001:],
    lambda lines: [f"{line},x" for line in lines[:1000]] + ['1,2023-01-01,"12', '5"'] + lines[1002:],
]


def test_a_quote_over_lines_refuses_the_file_by_its_line(seeded: SourceStore, tmp_path: Path) -> None:
    bookings = [HEADERS["reservations"], *booking_lines([(1, n) for n in range(1600)])]
    folder = write_csvs(tmp_path / "quotes")
    for make, end in product(STRAY_QUOTES, "\n\r"):
        lines = make(bookings) + bookings[1:]
        (folder / "reservations.csv").write_text(end.join(lines), newline="")
        with refused(seeded, r"line 1001: a quoted cell goes on in the next line"):
            seed(seeded, folder)


def by_line(change: Callable[[list[bytes]], list[bytes]]) -> Change:
    return lambda content: b"\n".join(change(content.splitlines()))


ANOTHER_WAY: dict[str, Change] = {
    "bom": lambda content: b"\xef\xbb\xbf" + content,
    "crlf": lambda content: content.replace(b"\n", b"\r\n"),
    "no last newline": lambda content: content.rstrip(b"\n"),
    "blank lines": lambda content: content.replace(b"\n", b"\n\n"),
    "gzip": gzip.compress,
    "quoted": by_line(lambda lines: [b'"a ""b""",' + line for line in lines]),
    "reordered columns": by_line(lambda lines: [b",".join(reversed(line.split(b","))) for line in lines]),
    "reordered rows": by_line(lambda lines: [lines[0], *reversed(lines[1:])]),
}


@pytest.mark.parametrize("change", ANOTHER_WAY.values(), ids=ANOTHER_WAY)
def test_rows_in_another_form_are_the_same(source: SourceStore, tmp_path: Path, change: Change) -> None:
    folder = write_csvs(tmp_path / "csv")
    seed(source, folder)
    before = contents(source), source.last_change()
    for path in folder.iterdir():
        rewrite(path, change)
    assert seed(source, folder).is_unchanged
    assert (contents(source), source.last_change()) == before


def test_headers_alone_seed_an_empty_database_and_empty_none(source: SourceStore, tmp_path: Path) -> None:
    empty = write_csvs(tmp_path / "empty", [], [])
    assert seed(source, empty).is_unchanged
    seed(source, write_csvs(tmp_path / "full"))
    with refused(source, r"2 of the 2 vehicles .*; and 2 of the 2 reservations"):
        seed(source, empty)
