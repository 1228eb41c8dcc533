"""The report keeps what earlier runs saw of other faults."""

from datetime import UTC, datetime
from pathlib import Path

from tests.drill import report
from tests.drill.case import Result

AT = datetime(2026, 11, 24, 18, 0, tzinfo=UTC)
EVERY = ("Redis killed", "disk full", "clock wrong")


def kept(path: Path, *results: Result) -> list[str]:
    report.keep(path, results, EVERY, at=AT, command="make drill")
    return path.read_text().splitlines()


def row(lines: list[str], fault: str) -> list[str]:
    (found,) = [line for line in lines if line.startswith(f"| {fault} |")]
    return [cell.strip() for cell in found.split("|")[1:-1]]


def test_a_run_of_some_faults_renews_their_rows_alone(tmp_path: Path) -> None:
    path = tmp_path / "drill.md"
    kept(path, Result("Redis killed", "redis", 2, 1, 3.0, problems=["a | b\nc"]), Result("gone", "redis", 1))
    lines = kept(path, Result("disk full", "disk", 1, 1, 0.5, note="3 writes"))
    assert row(lines, "Redis killed")[1:5] == ["2", "1", "3.0", "a / b c"]
    assert row(lines, "disk full")[1:5] == ["1", "1", "0.5", "3 writes"]
    assert row(lines, "clock wrong")[1:5] == ["", "", "", "not tried"]
    assert not any("gone" in line for line in lines)
    assert any(line.startswith("1 of 3 faults survived each time, 1 not, 1 not tried.") for line in lines)


def test_a_soak_and_the_faults_keep_out_of_each_others_way(tmp_path: Path) -> None:
    path = tmp_path / "drill.md"
    kept(path)
    report.write(path, report.SOAK, f"{report.SOAK}\n\nflat\n")
    text = "\n".join(kept(path, Result("clock wrong", "clock", skipped="no clock here")))
    assert text.startswith(f"{report.TITLE}\n\n{report.DRILL}\n")
    assert text.endswith(f"\n\n{report.SOAK}\n\nflat")
    assert text.count(report.DRILL) == 1
    assert "skipped: no clock here" in text
