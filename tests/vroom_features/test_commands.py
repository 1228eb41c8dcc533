"""The commands: what they print for people and for programs, and how they end."""

import json
import os
import pty
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from tests.vroom_features.files import vehicle_line, write_csvs
from tests.vroom_features.stores import arrive
from vroom_features.stores.source import SourceStore


@pytest.fixture
def home(tmp_path: Path) -> Path:
    """Return an empty folder to run commands in, with two CSV files in ``data``."""
    write_csvs(tmp_path / "data")
    return tmp_path


def command(home: Path, *arguments: str, **environment: str) -> "subprocess.CompletedProcess[str]":
    clean = {name: value for name, value in os.environ.items() if not name.startswith("VROOM_")}
    return subprocess.run(
        [sys.executable, "-m", "vroom_features", *arguments],
        cwd=home,
        env=clean | environment,
        capture_output=True,
        text=True,
        check=False,
    )


def document(done: "subprocess.CompletedProcess[str]") -> dict[str, Any]:
    assert done.returncode == 0, done.stderr
    assert done.stdout.count("\n") == 1
    found: dict[str, Any] = json.loads(done.stdout)
    assert found["seconds"] > 0
    return found


def test_seed_materialize_and_audit_print_one_line_of_json(home: Path, redis_url: str) -> None:
    seeded = document(command(home, "seed", "--db", "x.db", "--json"))
    assert (seeded["command"], seeded["state"], seeded["vehicles_added"]) == ("seed", "done", 2)
    again = document(command(home, "seed", "--db", "x.db", "--json"))
    assert again["state"] == "unchanged, the database held all of it"
    with_source(home / "x.db")
    stores = ("--db", "x.db", "--offline", "off")
    written = document(command(home, "materialize", *stores, "--redis-url", redis_url, "--json"))
    assert (written["state"], written["num_fleet"], written["num_online"]) == ("done", 2, 1)
    second = document(command(home, "materialize", *stores, "--redis-url", redis_url, "--json"))
    assert second["state"] == "unchanged, the stores were up to date"
    assert (second["snapshot_id"], second["num_parts_written"]) == (written["snapshot_id"], 0)
    audited = document(command(home, "audit", "--db", "x.db", "--redis-url", redis_url, "--json"))
    assert [audited[name] for name in ("missing", "stale", "wrong", "orphaned")] == [0, 0, 0, 0]


def with_source(path: Path) -> None:
    source = SourceStore.open(f"sqlite:///{path}")
    arrive(source)
    source.close()


def test_without_redis_the_offline_store_alone_is_written_and_the_report_says_so(home: Path) -> None:
    assert command(home, "seed").returncode == 0
    done = command(home, "materialize", "--redis-url", "")
    assert done.returncode == 0, done.stderr
    assert done.stdout.startswith("materialize: done, the offline store alone: no Redis was given (")
    assert "num fleet                 2\n" in done.stdout
    assert (home / "var" / "offline" / "current.json").is_file()


def test_the_size_of_a_partition_is_a_setting_and_an_option(home: Path) -> None:
    assert command(home, "seed").returncode == 0
    store = ("--redis-url", "", "--json")
    by_setting = document(
        command(home, "materialize", *store, "--offline", "a", VROOM_PARTITION_VEHICLES="1")
    )
    by_option = document(command(home, "materialize", *store, "--offline", "b", "--partition-vehicles", "1"))
    assert by_setting["num_parts"] == by_option["num_parts"] == 2
    refused = command(home, "materialize", *store, "--offline", "c", "--partition-vehicles", "0")
    assert refused.returncode != 0
    assert 'Invalid value "0" for --partition-vehicles. Must be >= 1.' in refused.stderr


def test_a_report_for_people_has_a_line_for_each_count(home: Path) -> None:
    done = command(home, "seed")
    assert done.returncode == 0, done.stderr
    assert done.stdout.startswith("seed: done (")
    assert "  vehicles added            2\n" in done.stdout
    assert "  reservations quarantined  0\n" in done.stdout


def test_a_seed_draws_its_progress_on_a_terminal(home: Path) -> None:
    ours, theirs = pty.openpty()
    done = subprocess.run(
        [sys.executable, "-m", "vroom_features", "seed"],
        cwd=home,
        env=os.environ | {"TERM": "xterm", "COLUMNS": "120"},
        stdout=subprocess.PIPE,
        stderr=theirs,
        check=True,
    )
    drawn = os.read(ours, 100_000).decode()
    os.close(theirs)
    os.close(ours)
    assert "reservations.csv" in drawn
    assert done.stdout.startswith(b"seed: done (")


def test_the_share_of_bad_rows_is_a_setting_and_an_option(home: Path) -> None:
    write_csvs(home / "data", [vehicle_line(1), vehicle_line(2, price=-1)], [])
    refused = command(home, "seed")
    assert (refused.returncode, refused.stdout) == (1, "")
    assert refused.stderr.startswith("error: ")
    assert "line 3: actual_price '-1'" in refused.stderr
    assert command(home, "seed", VROOM_MAX_BAD_SHARE="0.5").returncode == 0
    assert command(home, "seed", "--max-bad-share", "0.4").returncode == 1


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (("seed", "--data-dir", "nowhere"), "nowhere/vehicles.csv is missing"),
        (("seed", "--db", "mysql://x/y"), "expected a sqlite:/// or postgresql:// URL"),
        (("materialize", "--db", "none.db"), "seed it first"),
        (("materialize", "--redis-url", "redis://127.0.0.1:1/0"), "seed it first"),
        (("audit", "--redis-url", ""), "--redis-url"),
    ],
)
def test_what_goes_wrong_is_one_clear_line(home: Path, arguments: tuple[str, ...], said: str) -> None:
    done = command(home, *arguments)
    assert done.returncode == 1
    assert done.stderr.startswith("error: ")
    assert said in done.stderr
    assert done.stderr.count("\n") == 1
