"""The drill itself: a few faults that are cheap to try, broken promises that are seen, and the report."""

from collections.abc import Iterator
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path

import pytest

from benchmarks import soak
from tests.drill import promises, report
from tests.drill.__main__ import CASES
from tests.drill.case import Case, Fault, Result, chosen, settle
from tests.drill.system import System, attached, now
from tests.factories import VEHICLE
from tests.promises.system import System as StartedSystem
from vroom_features.database.queries import StoredVehicle
from vroom_features.online.rows import online_row

AT = datetime(2026, 11, 24, 18, 0, tzinfo=UTC)
NAMES = ("Redis killed", "disk full", "clock wrong")
CHEAP = (
    "web worker killed while it saves",
    "Redis emptied (FLUSHALL)",
    "monitor killed at its n-th operation",
)


@pytest.fixture(scope="module")
def target(system: StartedSystem) -> Iterator[System]:
    with attached(system) as found:
        yield found


@pytest.mark.packaging
@pytest.mark.timeout(500)
@pytest.mark.parametrize("case", [case for case in CASES if case.name in CHEAP], ids=lambda case: case.name)
def test_the_running_system_survives(target: System, case: Case) -> None:
    result = (replace(case, tries=1) if isinstance(case, Fault) else replace(case, at_most=2)).run(target)
    assert result.problems == []
    assert result.is_survived


@pytest.mark.packaging
def test_a_save_that_is_not_there_and_an_online_row_too_many_are_seen(
    target: System, monkeypatch: pytest.MonkeyPatch
) -> None:
    settle(target)
    with monkeypatch.context() as patched:
        patched.setitem(target.kept.saved, "lost", (10**9, VEHICLE))
        with pytest.raises(AssertionError, match="lost made 1000000000, the database has None"):
            promises.check_all(target)
    unknown = {"vehicle_id": 10**9, "source": "ui", "row_version": 1, "saved_at": now()}
    row = StoredVehicle.model_validate(VEHICLE | unknown | {"num_reservations": None})
    target.online.put([online_row(row, materialized_at=now())])
    with pytest.raises(AssertionError, match="the audit finds"):
        promises.check_all(target)
    promises.runs_converge(target)
    settle(target)


def test_cases_are_chosen_by_words_of_their_group_or_name() -> None:
    names = [case.name for case in chosen(CASES, "monitor, disk full under p")]
    assert names == ["disk full under Parquet", "monitor killed at its n-th operation"]
    assert len(chosen(CASES, "")) == len(CASES)


def test_a_run_of_some_faults_renews_their_rows_alone_and_a_soak_its_own_section(tmp_path: Path) -> None:
    path = tmp_path / "drill.md"
    path.write_text("# The drill\n\n## Faults\n\n## Soak\n\nflat\n")
    broken = Result("Redis killed", 2, 1, 3.0, problems=["a | b\nc"])
    report.keep(path, [broken, Result("gone", 1)], NAMES, AT, "make drill")
    skipped = Result("clock wrong", skipped="no clock here")
    report.keep(path, [Result("disk full", 1, 1, 0.5, note="3 writes"), skipped], NAMES, AT, "make drill")
    text = path.read_text()
    for row in (
        "| Redis killed | 2 | 1 | 3.0 | a / b c |",
        "| disk full | 1 | 1 | 0.5 | 3 writes |",
        "| clock wrong |  |  |  | skipped: no clock here |",
        "1 of 3 faults survived each time, 1 not, 1 not tried.",
    ):
        assert f"\n{row}" in text
    assert "gone" not in text
    assert text.endswith("\n\n## Soak\n\nflat\n")
    names = ("minutes", "saves", *soak.GROWS_MAX, *soak.BOUNDS, "database mb")
    samples = [dict.fromkeys(names, 1.0) | {"handles": 10.0 * number} for number in range(20)]
    soak.keep(path, samples, AT, "make drill SOAK=1m")
    text = path.read_text()
    assert "| Redis killed | 2 | 1 |" in text
    assert "\n## Soak\n\nhandles rose from 110 to 190 `make drill SOAK=1m`" in text
