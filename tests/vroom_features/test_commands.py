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
from vroom_features.database.vehicles import SourceStore
from vroom_features.errors import SettingsError
from vroom_features.settings import read_settings


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
    assert again["state"] == "unchanged, the database was up to date"
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
    assert "  reservations set aside    0\n" in done.stdout


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
    write_csvs(home / "data", [vehicle_line(1), vehicle_line(2, actual_price=-1)], [])
    refused = command(home, "seed")
    assert (refused.returncode, refused.stdout) == (1, "")
    assert refused.stderr.startswith("error: ")
    assert "line 3: actual_price '-1'" in refused.stderr
    assert command(home, "seed", VROOM_MAX_BAD_SHARE="0.5").returncode == 0
    assert command(home, "seed", "--max-bad-share", "0.4").returncode == 1


def test_a_seed_that_would_remove_too_much_ends_with_1_until_it_is_asked_for(home: Path) -> None:
    assert command(home, "seed").returncode == 0
    write_csvs(home / "data", [vehicle_line(1)])
    refused = command(home, "seed")
    assert (refused.returncode, refused.stdout) == (1, "")
    assert refused.stderr.startswith(
        "error: the files in data lack 1 of the 2 vehicles in the database (50.0%, "
    )
    assert refused.stderr.count("\n") == 1
    assert document(command(home, "seed", "--allow-removals", "--json"))["vehicles_removed"] == 1
    write_csvs(home / "data", [vehicle_line(2)], ["2,2023-01-01"])
    assert command(home, "seed", VROOM_MAX_REMOVED_VEHICLE_SHARE="1").returncode == 1
    limits = {"VROOM_MAX_REMOVED_VEHICLE_SHARE": "1", "VROOM_MAX_REMOVED_RESERVATION_SHARE": "1"}
    assert command(home, "seed", **limits).returncode == 0


@pytest.mark.parametrize("module", ["vroom_features", "flows", "webapp"])
def test_settings_that_cannot_be_used_are_named_a_line_each(home: Path, module: str) -> None:
    clean = {name: value for name, value in os.environ.items() if not name.startswith("VROOM_")}
    wrong = {"VROOM_WEB_PORT": "99999", "VROOM_REDIS_URL": "redis://:secret@host:99999/0"}
    arguments = {"vroom_features": ["seed"], "flows": ["up"], "webapp": []}[module]
    done = subprocess.run(
        [sys.executable, "-m", module, *arguments],
        cwd=home,
        env=clean | wrong,
        capture_output=True,
        text=True,
        check=False,
    )
    assert (done.returncode, done.stdout) == (2, "")
    redis, port = done.stderr.splitlines()
    assert redis.startswith("VROOM_REDIS_URL: the address or its port cannot be read")
    assert port == "VROOM_WEB_PORT: Input should be less than or equal to 65535, got '99999'"


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("HOME", ""),
        ("DATABASE_URL", "mysql://host/vroom"),
        ("DATABASE_URL", "postgresql://user:secret@host:99999/vroom"),
        ("DATABASE_URL", "vroom.db"),
        ("REDIS_URL", "http://host:6379"),
        ("REDIS_URL", "host:6379"),
        ("MLFLOW_URI", "mlflow.internal:5000"),
        ("MLFLOW_URI", "http://:5000"),
        ("MODEL_NAME", ""),
        ("MODEL_NAME", "it's"),
        ("MODEL_NAME", "a/b"),
        ("MODEL_NAME", "m" * 257),
        ("PROMOTION_SEGMENT_MARGIN", "inf"),
    ],
)
def test_a_setting_that_could_never_work_is_refused_by_its_name(
    monkeypatch: pytest.MonkeyPatch, name: str, value: str
) -> None:
    monkeypatch.setenv(f"VROOM_{name}", value)
    with pytest.raises(SettingsError, match=rf"^VROOM_{name}: ") as refusal:
        read_settings()
    assert "secret" not in str(refusal.value)


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("DATABASE_URL", "sqlite:////var/lib/vroom/vroom.db"),
        ("DATABASE_URL", "postgresql+psycopg://user:a#b@db.internal:5432/vroom"),
        ("DATABASE_URL", "postgresql:///vroom?host=/run/postgresql"),
        ("REDIS_URL", "rediss://:p@redis.internal:6379/0"),
        ("REDIS_URL", "redis+cluster://[::1]:7000"),
        ("REDIS_URL", "unix:///run/redis.sock?db=1"),
        ("MLFLOW_URI", "https://mlflow.internal/prefix"),
        ("MODEL_NAME", "Prévision v2.1_a"),
        ("MODEL_NAME", "m"),
    ],
)
def test_what_can_work_is_taken_as_it_is(monkeypatch: pytest.MonkeyPatch, name: str, value: str) -> None:
    monkeypatch.setenv(f"VROOM_{name}", value)
    found = getattr(read_settings(), name.lower())
    assert (found if name == "MODEL_NAME" else found.url) == value


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (("seed", "--data-dir", "nowhere"), "nowhere/vehicles.csv is missing"),
        (("seed", "--db", "mysql://x/y"), "--db: mysql is no database that is known here"),
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
