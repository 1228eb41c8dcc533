"""The drill itself: a few faults that are cheap to try, broken promises that are seen, and the report."""

from collections.abc import Iterator
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path

import pytest

from tests.drill import promises, report, soak
from tests.drill.__main__ import CASES
from tests.drill.case import Case, Fault, Result, chosen
from tests.drill.system import System, attached, now
from tests.factories import VEHICLE
from tests.whole_system import WholeSystem
from vroom_features.database.queries import StoredVehicle
from vroom_features.online.rows import online_row

AT = datetime(2026, 11, 24, 18, 0, tzinfo=UTC)
EVERY = ("Redis killed", "disk full", "clock wrong")
CHEAP = (
    "web worker killed while it saves",
    "Redis emptied (FLUSHALL)",
    "monitor killed at its n-th operation",
)


@pytest.fixture(scope="module")
def target(system: WholeSystem) -> Iterator[System]:
    with attached(system) as found:
        yield found


@pytest.mark.timeout(500)
@pytest.mark.parametrize("case", [case for case in CASES if case.name in CHEAP], ids=lambda case: case.name)
def test_the_running_system_survives(target: System, case: Case) -> None:
    result = (replace(case, tries=1) if isinstance(case, Fault) else replace(case, at_most=2)).run(target)
    assert result.problems == []
    assert result.is_survived


def test_a_save_that_was_acknowledged_and_is_not_there_is_seen(
    target: System, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(target.kept.saved, "lost", (10**9, VEHICLE))
    with pytest.raises(AssertionError, match="lost made 1000000000, the database has None"):
        promises.check_all(target)


def test_an_online_row_that_the_database_does_not_have_is_seen(target: System) -> None:
    promises.online_store_equals_the_database(target)
    unknown = {"vehicle_id": 10**9, "source": "ui", "row_version": 1, "saved_at": now()}
    row = StoredVehicle.model_validate(VEHICLE | unknown | {"num_reservations": None})
    target.online.put([online_row(row, materialized_at=now())])
    with pytest.raises(AssertionError, match="the audit finds"):
        promises.online_store_equals_the_database(target)
    promises.runs_converge(target)
    promises.online_store_equals_the_database(target)


def test_cases_are_chosen_by_words_of_their_group_or_name() -> None:
    names = [case.name for case in chosen(CASES, "monitor, disk full under p")]
    assert names == ["disk full under Parquet", "monitor killed at its n-th operation"]
    assert len(chosen(CASES, "")) == len(CASES)


def kept(path: Path, *results: Result) -> list[str]:
    report.keep(path, results, EVERY, AT, "make drill")
    return path.read_text().splitlines()


def row(lines: list[str], fault: str) -> list[str]:
    (found,) = [line for line in lines if line.startswith(f"| {fault} |")]
    return [cell.strip() for cell in found.split("|")[1:-1]]


@pytest.fixture
def path(tmp_path: Path) -> Path:
    path = tmp_path / "drill.md"
    path.write_text("# The drill\n\n## Faults\n\n## Soak\n\nflat\n")
    return path


def test_a_run_of_some_faults_renews_their_rows_alone(path: Path) -> None:
    kept(path, Result("Redis killed", 2, 1, 3.0, problems=["a | b\nc"]), Result("gone", 1))
    lines = kept(path, Result("disk full", 1, 1, 0.5, note="3 writes"))
    assert row(lines, "Redis killed")[1:5] == ["2", "1", "3.0", "a / b c"]
    assert row(lines, "disk full")[1:5] == ["1", "1", "0.5", "3 writes"]
    assert row(lines, "clock wrong")[1:5] == ["", "", "", "not tried"]
    assert not any("gone" in line for line in lines)
    assert any(line.startswith("1 of 3 faults survived each time, 1 not, 1 not tried.") for line in lines)


def test_a_soak_and_the_faults_have_sections_of_their_own(path: Path) -> None:
    kept(path, Result("clock wrong", skipped="no clock here"))
    assert path.read_text().endswith("\n\n## Soak\n\nflat\n")
    names = ("minutes", "saves", *soak.GROWS_MAX, *soak.BOUNDS, "database mb")
    samples = [dict.fromkeys(names, 1.0) | {"handles": 10.0 * number} for number in range(20)]
    soak.keep(path, samples, AT, "make drill SOAK=1m")
    text = path.read_text()
    assert "skipped: no clock here" in text
    assert "\n## Soak\n\nhandles rose from 110 to 190 `make drill SOAK=1m`" in text
