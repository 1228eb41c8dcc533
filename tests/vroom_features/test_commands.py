"""The commands: what they print for people and for programs, how they end, and the words of ``vroom``."""

import os
import pty
import subprocess
import sys
import tomllib
from contextlib import closing
from pathlib import Path

import pytest

from tests.promises.system import ROOT
from tests.vroom_features.commands import command, report
from tests.vroom_features.files import vehicle_line, write_csvs
from tests.vroom_features.stores import arrive
from vroom_features.commands.vroom import COMMANDS
from vroom_features.database.vehicles import SourceStore


@pytest.fixture
def home(tmp_path: Path) -> Path:
    """Return a folder to run commands in, with two CSV files in ``data``."""
    write_csvs(tmp_path / "data")
    return tmp_path


def test_seed_materialize_and_audit_print_one_line_of_json(home: Path, redis_url: str) -> None:
    seeded = report(home, "seed", "--db", "x.db")
    assert (seeded["command"], seeded["state"], seeded["vehicles_added"]) == ("seed", "done", 2)
    assert report(home, "seed", "--db", "x.db")["state"] == "unchanged, the database was up to date"
    with closing(SourceStore.open(f"sqlite:///{home / 'x.db'}")) as source:
        arrive(source)
    online = ("--db", "x.db", "--redis-url", redis_url)
    written = report(home, "materialize", *online, "--offline", "off")
    assert (written["state"], written["num_fleet"], written["num_online"]) == ("done", 2, 1)
    second = report(home, "materialize", *online, "--offline", "off")
    assert second["state"] == "unchanged, the stores were up to date"
    assert (second["snapshot_id"], second["num_parts_written"]) == (written["snapshot_id"], 0)
    audited = report(home, "audit", *online)
    assert [audited[name] for name in ("missing", "stale", "wrong", "orphaned")] == [0, 0, 0, 0]


def test_the_watch_and_the_past_are_options(home: Path) -> None:
    later = report(home, "seed", "--complete-through", "2023-01-12", VROOM_WATCH_DAYS="1")
    assert (later["watch_days"], later["complete_through"], later["vehicles_matured"]) == (1, "2023-01-12", 2)
    longer = report(home, "seed", VROOM_WATCH_DAYS="7")
    assert (longer["watch_days"], longer["complete_through"]) == (7, "2023-01-12")
    assert longer["state"] == "done; a watch has another length, so materialize and train a new model"
    past = report(home, "materialize", "--as-of", "2023-01-12", "--offline", "off")
    assert past["state"] == "done, the snapshot of the end of 2023-01-12"
    assert (past["num_fleet"], past["num_labels"], past["num_online"]) == (2, 0, None)
    assert not (home / "off" / "current.json").exists()


@pytest.mark.parametrize("day", ["0001-01-03", "9999-12-31"])
def test_a_day_before_all_bookings_or_to_come_is_refused(home: Path, day: str) -> None:
    assert command(home, "seed").returncode == 0
    told = command(home, "seed", "--complete-through", day)
    assert (told.returncode, told.stderr.count("\n")) == (1, 1)
    assert f"expected complete_through from 2000-01-01 to today, got {day}" in told.stderr
    past = command(home, "materialize", "--as-of", day, "--offline", "off")
    assert (past.returncode, past.stderr.count("\n")) == (1, 1)
    assert f"expected a day that is over, from 2000-01-01 on, got {day}" in past.stderr


def test_a_report_for_people_has_a_line_for_each_count(home: Path) -> None:
    seeded = command(home, "seed").stdout
    assert seeded.startswith("seed: done (")
    assert "  vehicles added            2\n" in seeded
    assert "  reservations set aside    0\n" in seeded
    written = command(home, "materialize", "--redis-url", "").stdout
    assert written.startswith("materialize: done, the offline store alone: no Redis was given (")
    assert (home / "var" / "offline" / "current.json").is_file()


def test_the_size_of_a_partition_is_a_setting_and_an_option(home: Path) -> None:
    command(home, "seed")
    store = ("materialize", "--redis-url", "", "--offline")
    by_setting = report(home, *store, "a", VROOM_PARTITION_VEHICLES="1")
    by_option = report(home, *store, "b", "--partition-vehicles", "1")
    assert by_setting["num_parts"] == by_option["num_parts"] == 2
    refused = command(home, *store, "c", "--partition-vehicles", "0")
    assert refused.returncode != 0
    assert 'Invalid value "0" for --partition-vehicles. Must be >= 1.' in refused.stderr


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


def test_what_a_seed_refuses_is_set_by_settings_and_options(home: Path) -> None:
    write_csvs(home / "data", [vehicle_line(1), vehicle_line(2), vehicle_line(3, actual_price=-1)], [])
    refused = command(home, "seed")
    assert (refused.returncode, refused.stdout) == (1, "")
    assert "line 4: actual_price '-1'" in refused.stderr
    assert command(home, "seed", "--max-bad-share", "0.3").returncode == 1
    assert command(home, "seed", VROOM_MAX_BAD_SHARE="0.4").returncode == 0
    write_csvs(home / "data", [vehicle_line(2)], ["2,2999-01-01"])
    assert "line 2: created_at '2999-01-01'" in command(home, "seed", "--allow-removals").stderr
    write_csvs(home / "data", [vehicle_line(2)], ["2,2023-01-01"])
    limits = {"VROOM_MAX_REMOVED_VEHICLE_SHARE": "1", "VROOM_MAX_REMOVED_RESERVATION_SHARE": "1"}
    assert command(home, "seed").returncode == 1
    assert report(home, "seed", **limits)["vehicles_removed"] == 1
    write_csvs(home / "data", [vehicle_line(1)], [])
    assert command(home, "seed", VROOM_MAX_REMOVED_VEHICLE_SHARE="1").returncode == 1
    assert report(home, "seed", "--allow-removals")["vehicles_removed"] == 1


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("seed", "--data-dir", "nowhere"), "nowhere/vehicles.csv is missing"),
        (("seed", "--db", "mysql://x/y"), "--db: mysql is no database that is known here"),
        (("materialize", "--db", "none.db"), "seed it first"),
        (("audit", "--redis-url", ""), "--redis-url"),
    ],
)
def test_an_error_is_one_clear_line(home: Path, arguments: tuple[str, ...], message: str) -> None:
    done = command(home, *arguments)
    assert done.returncode == 1
    assert done.stderr.startswith("error: ")
    assert message in done.stderr
    assert done.stderr.count("\n") == 1


@pytest.mark.parametrize(
    "words", ["vroom_features seed", "webapp", pytest.param("flows up", marks=pytest.mark.packaging)]
)
def test_settings_that_cannot_be_used_are_named_a_line_each(home: Path, words: str) -> None:
    clean = {name: value for name, value in os.environ.items() if not name.startswith("VROOM_")}
    wrong = {"VROOM_WEB_PORT": "99999", "VROOM_REDIS_URL": "redis://:secret@host:99999/0"}
    arguments = [sys.executable, "-m", *words.split()]
    done = subprocess.run(arguments, cwd=home, env=clean | wrong, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout) == (2, "")
    redis, port = done.stderr.splitlines()
    assert redis.startswith("VROOM_REDIS_URL: the address or its port cannot be read")
    assert port == "VROOM_WEB_PORT: Input should be less than or equal to 65535, got '99999'"


VROOM = str(Path(sys.executable).with_name("vroom"))
VERSION = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["version"]


def run(*command: str, cwd: Path = ROOT) -> "subprocess.CompletedProcess[str]":
    return subprocess.run(command, cwd=cwd, capture_output=True, text=True, timeout=120, check=False)


def test_help_names_every_command_and_an_unknown_word_is_refused_with_all_of_them() -> None:
    told, refused = run(VROOM, "--help").stdout, run(VROOM, "frobnicate")
    assert run(VROOM).stdout == told
    assert (refused.returncode, refused.stdout) == (2, "")
    assert "got 'frobnicate'" in refused.stderr
    for name in COMMANDS:
        assert f"\n  {name} " in told
        assert name in refused.stderr


@pytest.mark.parametrize("command", [(VROOM,), (sys.executable, "-m", "vroom_features")])
def test_the_version_is_that_of_the_package(command: tuple[str, ...]) -> None:
    assert run(*command, "--version").stdout == f"{VERSION}\n"


@pytest.mark.parametrize(
    ("name", "told"),
    [
        ("seed", "--allow-removals"),
        ("web", "{app,events}"),
        pytest.param("up", "serve until Ctrl-C", marks=pytest.mark.packaging),
        pytest.param("worker", "--pool", marks=pytest.mark.packaging),
    ],
)
def test_a_word_starts_its_module_whatever_this_folder_holds(tmp_path: Path, name: str, told: str) -> None:
    for package in ("flows", "vroom_features", "webapp"):
        (tmp_path / package).mkdir()
        (tmp_path / package / "__init__.py").write_text("raise SystemExit('another package')")
    done = run(VROOM, name, "--help", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert told in done.stdout
