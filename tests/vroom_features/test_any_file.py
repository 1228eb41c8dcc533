"""Any bytes as CSVs, taken or refused by our own error with the database unchanged; and any fleets."""

import gzip
import tempfile
import tracemalloc
import zlib
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests.vroom_features.files import HEADERS, booking_lines, vehicle_line, write_csvs
from tests.vroom_features.stores import contents
from vroom_features.database.vehicles import SourceStore
from vroom_features.errors import DataContractError, VroomFeaturesError
from vroom_features.ingest.contract import reservation_columns
from vroom_features.ingest.csv_files import UNZIPPED_ALWAYS_BYTES, check_file
from vroom_features.ingest.seed import seed

PIECES = [bytes([byte]) for byte in b',\n\r"1\x00\xff']
PIECES += [b"\r\n", b"45.5", b"2023-01-01", b"-1", b"\xef\xbb\xbf"]
content = st.binary(max_size=300) | st.lists(st.sampled_from(PIECES), max_size=80).map(b"".join)


@pytest.fixture(scope="module")
def seeded(tmp_path_factory: pytest.TempPathFactory) -> SourceStore:
    folder = tmp_path_factory.mktemp("fuzz")
    store = SourceStore.open(f"sqlite:///{folder / 'vroom.db'}")
    seed(store, write_csvs(folder / "csv"))
    return store


@given(
    name=st.sampled_from(sorted(HEADERS)),
    body=content,
    has_header=st.booleans(),
    packing=st.sampled_from(["plain", "gzip", "spoiled"]),
    options=st.fixed_dictionaries(
        {"max_bad_share": st.sampled_from([0.01, 1.0]), "allow_removals": st.booleans()}
    ),
)
@settings(max_examples=60, deadline=None, suppress_health_check=list(HealthCheck))
def test_any_file_is_taken_or_refused(
    seeded: SourceStore, name: str, body: bytes, has_header: bool, packing: str, options: dict[str, Any]
) -> None:
    before = (seeded.count_vehicles(), seeded.revision())
    content = (f"{HEADERS[name]}\n".encode() if has_header else b"") + body
    if packing != "plain":
        content = gzip.compress(content, mtime=0)
    if packing == "spoiled":
        middle = len(content) // 2
        content = content[:middle] + bytes([content[middle] ^ 0x55]) + content[middle + 1 :]
    with tempfile.TemporaryDirectory() as scratch:
        folder = write_csvs(Path(scratch))
        (folder / f"{name}.csv").write_bytes(content)
        try:
            report = seed(seeded, folder, **options)
        except VroomFeaturesError:
            assert (seeded.count_vehicles(), seeded.revision()) == before
        else:
            counted = seeded.count_vehicles()
            vehicles = report.vehicles_added + report.vehicles_updated + report.vehicles_unchanged
            assert counted.fleet + counted.new_arrivals == vehicles + report.vehicles_kept
            seed(seeded, write_csvs(Path(scratch) / "good"), allow_removals=True)  # as it was before


NUMBERS = '7| 7 |+7|007|7.0|7e0|0x7|1_0|9999999999999999999|9223372036854775807|"7"|"7|7"'
MOMENTS = (
    '2023-05-01|2023-05-01T10:00:00Z|2023-05-01 10| 2023-05-01 10:00 |20230501||now|NaT|"2023-05-01"|'
    "2023-05-01 10:00:00.5|2023-05-01 10:00+02:00|2023-02-30|2023-05-01 24:00:00|2023-05-01 10:00:60|"
    "0000-01-01|0001-01-01 00:00+01|9999-12-31 23:59:59.999999|2023-05-01 10:00:00.1234567"
)
other_numbers = st.text(alphabet='0123456789.,+-eE \t"\x00\u0663infa', max_size=4)
numbers = st.sampled_from(NUMBERS.split("|")) | other_numbers
moments = st.sampled_from(MOMENTS.split("|"))


@given(rows=st.lists(st.tuples(numbers, moments | numbers), min_size=1, max_size=3))
@settings(max_examples=80, deadline=None)
def test_a_bad_row_does_not_change_how_other_rows_are_read(rows: list[tuple[str, str]]) -> None:
    with tempfile.TemporaryDirectory() as scratch:
        found = []
        for more in ([], ["x,x"]):
            folder = write_csvs(Path(scratch), reservations=[*map(",".join, rows), *more])
            try:
                found.append(check_file(folder / "reservations.csv", reservation_columns()))
            except DataContractError as exc:
                found.append(str(exc))
    alone, with_bad = found
    if isinstance(alone, str) or isinstance(with_bad, str):
        assert alone == with_bad
        return
    assert alone.columns.equals(with_bad.columns)
    assert alone.problems == with_bad.problems[:-1]
    assert alone.bad_ids.tolist() == with_bad.bad_ids.tolist()


def test_a_gzip_bomb_is_given_up_early(seeded: SourceStore, tmp_path: Path) -> None:
    before = (seeded.count_vehicles(), seeded.revision())
    folder = write_csvs(tmp_path / "bomb")
    packer = zlib.compressobj(9, wbits=31)
    block = b"1,2023-01-01 10:00:00\n" * 50_000
    with (folder / "reservations.csv").open("wb") as bomb:
        bomb.write(packer.compress(f"{HEADERS['reservations']}\n".encode()))
        for _ in range(2 * UNZIPPED_ALWAYS_BYTES // len(block)):
            bomb.write(packer.compress(block))
        bomb.write(packer.flush())
    assert (folder / "reservations.csv").stat().st_size < UNZIPPED_ALWAYS_BYTES / 200
    tracemalloc.start()
    with pytest.raises(DataContractError):
        seed(seeded, folder)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 2 * UNZIPPED_ALWAYS_BYTES
    assert (seeded.count_vehicles(), seeded.revision()) == before


def test_a_cell_that_is_too_long_to_show_is_refused_by_its_line(seeded: SourceStore, tmp_path: Path) -> None:
    lines = [vehicle_line(1), vehicle_line(2), vehicle_line("9" * 200_000)]
    with pytest.raises(DataContractError, match="line 4"):
        seed(seeded, write_csvs(tmp_path / "csv", lines), max_bad_share=1.0)


ids = st.integers(1, 6)
fleets = st.dictionaries(ids, st.tuples(st.integers(1, 9), st.integers(0, 3)), min_size=1)
bookings = st.lists(st.tuples(ids, st.integers(0, 4)), max_size=20)


@given(states=st.lists(st.tuples(fleets, bookings), min_size=1, max_size=4), block_rows=st.integers(1, 9))
@settings(max_examples=8, suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None)
def test_whatever_was_there_a_seed_ends_as_a_clean_one(
    tmp_path_factory: pytest.TempPathFactory,
    monkeypatch: pytest.MonkeyPatch,
    states: list[tuple[dict[int, tuple[int, int]], list[tuple[int, int]]]],
    block_rows: int,
) -> None:
    monkeypatch.setattr("vroom_features.ingest.upsert.BLOCK_ROWS", block_rows)
    folder = tmp_path_factory.mktemp("states")
    with (
        closing(SourceStore.open(f"sqlite:///{folder / 'used.db'}")) as used,
        closing(SourceStore.open(f"sqlite:///{folder / 'clean.db'}")) as clean,
    ):
        for number, (fleet, booked) in enumerate(states):
            lines = [
                vehicle_line(i, actual_price=price, num_images=images) for i, (price, images) in fleet.items()
            ]
            known = [(i, day) for i, day in booked if i in fleet] or [(min(fleet), 0)]
            files = write_csvs(folder / str(number), lines, booking_lines(known))
            report = seed(used, files, allow_removals=True)
            assert report.vehicles_added + report.vehicles_updated + report.vehicles_unchanged == len(fleet)
            assert report.reservations_added + report.reservations_unchanged == len(known)
            assert seed(used, files).is_unchanged
        seed(clean, files)
        assert contents(used) == contents(clean)
