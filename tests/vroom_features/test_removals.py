"""What a seed removes, what it keeps because a bad row may have held it, and what it sets aside."""

from pathlib import Path
from typing import Any

import pytest

from tests.vroom_features.files import booking_lines, vehicle_line, write_csvs
from tests.vroom_features.stores import arrive, contents, counts, on_both, refused, rows
from vroom_features.database.vehicles import SourceStore
from vroom_features.errors import DataContractError
from vroom_features.ingest.seed import seed

NUM = 120
VEHICLES = {i: vehicle_line(i) for i in range(1, NUM + 1)}
BOOKED = {(i, day): booking_lines([(i, day)])[0] for i in range(1, NUM + 1) for day in range(2)}
UNREADABLE = [vehicle_line("x"), vehicle_line(""), vehicle_line(0), "7,1,45.5"]
"""Rows whose vehicle is unknown."""


@pytest.fixture
def fleet(source: SourceStore, tmp_path: Path) -> SourceStore:
    """Return a database with 120 vehicles of two bookings each."""
    seed(source, write_csvs(tmp_path / "fleet", VEHICLES.values(), BOOKED.values()))
    return source


def files(
    folder: Path,
    *,
    vehicles: dict[int, str] | None = None,
    booked: dict[tuple[int, int], str] | None = None,
    without: tuple[int, ...] = (),
    unbooked: tuple[tuple[int, int], ...] = (),
) -> Path:
    """Write the fleet's files with some rows changed, added or left out."""
    lines = {i: line for i, line in (VEHICLES | (vehicles or {})).items() if i not in without}
    bookings = {key: line for key, line in (BOOKED | (booked or {})).items() if key not in unbooked}
    return write_csvs(folder / "csv", lines.values(), bookings.values())


@pytest.mark.parametrize(
    ("num_gone", "limits", "problem"),
    [
        (6, {}, ""),
        (
            7,
            {},
            r"^the files in \S+ lack 7 of the 120 vehicles in the database \(5.8%, VROOM_MAX_REMOVED_VEHICLE"
            r"_SHARE allows 5.0%\), such as vehicle 1, vehicle 2, vehicle 3\. Nothing.*--allow-removals",
        ),
        (7, {"max_removed_vehicle_share": 0.06}, ""),
        (
            13,
            {"max_removed_vehicle_share": 1.0},
            "lack 26 of the 240 reservations in the database.* such as vehicle 1 at 2023-01-01T00:00:00, ",
        ),
        (120, {"allow_removals": True}, ""),
    ],
)
def test_more_vehicles_or_bookings_than_a_share_are_not_removed(
    fleet: SourceStore, tmp_path: Path, num_gone: int, limits: dict[str, Any], problem: str
) -> None:
    gone = tuple(range(1, num_gone + 1))
    folder = files(tmp_path, without=gone, unbooked=tuple((i, day) for i in gone for day in range(2)))
    if problem:
        with refused(fleet, problem):
            seed(fleet, folder, **limits)
    else:
        assert seed(fleet, folder, **limits).vehicles_removed == num_gone


@on_both
def test_a_vehicle_whose_row_is_bad_stays_and_its_bookings_follow(fleet: SourceStore, tmp_path: Path) -> None:
    before, _ = contents(fleet)
    folder = files(
        tmp_path,
        vehicles={7: vehicle_line(7, actual_price="", num_images=9)},
        booked={(7, 5): booking_lines([(7, 5)])[0]},
        unbooked=((7, 0),),
    )
    assert counts(seed(fleet, folder)) == {
        "vehicles_kept": 1,
        "vehicles_quarantined": 1,
        "reservations_added": 1,
        "reservations_removed": 1,
    }
    assert contents(fleet)[0] == before
    days = rows(fleet, "SELECT COUNT(*), COUNT(DISTINCT created_at) FROM reservations WHERE vehicle_id = 7")
    assert days == [(2, 2)]
    assert seed(fleet, folder).is_unchanged
    assert seed(fleet, folder).vehicles_kept == 1
    seed(fleet, files(tmp_path, without=(7,), unbooked=((7, 0), (7, 1))))  # now it is known to be gone
    assert fleet.get_vehicle(7) is None


@pytest.mark.parametrize("line", [vehicle_line(1, actual_price=""), *UNREADABLE])
def test_bookings_wait_for_a_vehicle_that_is_bad(source: SourceStore, tmp_path: Path, line: str) -> None:
    bad = files(tmp_path, vehicles={1: line})
    assert counts(seed(source, bad)) == {
        "vehicles_added": NUM - 1,
        "vehicles_quarantined": 1,
        "reservations_added": 2 * NUM - 2,
        "reservations_set_aside": 2,
    }
    assert not list(tmp_path.rglob("reservations.rejected.csv"))
    assert seed(source, bad).reservations_set_aside == 2
    assert counts(seed(source, files(tmp_path))) == {"vehicles_added": 1, "reservations_added": 2}


@pytest.mark.parametrize("line", UNREADABLE)
def test_a_vehicle_row_without_an_id_keeps_all_absent(fleet: SourceStore, tmp_path: Path, line: str) -> None:
    report = seed(fleet, files(tmp_path, vehicles={7: line}, without=(8,), unbooked=((8, 0), (8, 1))))
    assert counts(report) == {"vehicles_kept": 2, "vehicles_quarantined": 1, "reservations_removed": 2}
    assert fleet.count_vehicles().fleet == NUM


def test_unknown_bookings_of_more_vehicles_than_bad_rows_are_bad(source: SourceStore, tmp_path: Path) -> None:
    bad = {1: vehicle_line("x"), 3: vehicle_line(3, "")}
    too_many = files(tmp_path, vehicles=bad, without=(2,), booked={(2, 2): booking_lines([(2, 2)])[0]})
    report = seed(source, too_many, max_bad_share=0.05)
    assert (report.vehicles_quarantined, report.reservations_quarantined) == (2, 5)
    assert report.reservations_set_aside == 2  # of vehicle 3, whose id can be read
    with pytest.raises(DataContractError, match=r"reservations\.csv: 5 of 241 rows"):
        seed(source, too_many, max_bad_share=0.02)


def test_a_bad_booking_keeps_the_bookings_of_its_vehicle_alone(fleet: SourceStore, tmp_path: Path) -> None:
    typed_in, removed = arrive(fleet), "reservations_removed"
    seed(fleet, files(tmp_path, booked={(typed_in, 0): f"{typed_in},2023-01-01"}))
    folder = files(
        tmp_path, booked={(7, 0): "7,soon", (typed_in, 0): f"{typed_in},soon"}, unbooked=((7, 1), (8, 1))
    )
    assert counts(seed(fleet, folder)) == {removed: 1, "reservations_kept": 3, "reservations_quarantined": 2}
    assert fleet.get_vehicle(typed_in).num_reservations == 1  # type: ignore[union-attr]
    assert seed(fleet, folder).is_unchanged
    assert counts(seed(fleet, files(tmp_path, unbooked=((7, 1), (8, 1))))) == {removed: 2}


@pytest.mark.parametrize("line", ["x,2023-01-01", ",2023-01-01", "-7,2023-01-01", "7", "7,2023-01-01,1"])
def test_a_booking_without_vehicle_keeps_every_booking(fleet: SourceStore, tmp_path: Path, line: str) -> None:
    before = contents(fleet)
    folder = files(tmp_path, booked={(7, 0): line}, without=(9,), unbooked=((8, 1), (9, 0), (9, 1)))
    assert counts(seed(fleet, folder)) == {
        "vehicles_kept": 1,
        "reservations_kept": 4,
        "reservations_quarantined": 1,
    }
    assert contents(fleet) == before


def test_a_good_row_beside_a_bad_one_of_the_same_id_counts(fleet: SourceStore, tmp_path: Path) -> None:
    twice = f"{vehicle_line(7, actual_price='')}\n{vehicle_line(7, actual_price=60)}"
    report = seed(fleet, files(tmp_path, vehicles={7: twice}))
    assert counts(report) == {"vehicles_updated": 1, "vehicles_quarantined": 1}
    assert fleet.get_vehicle(7).actual_price == 60  # type: ignore[union-attr]
