"""An address is used whole, and shown without user, password, query and fragment."""

import os
import pickle
from pathlib import Path

import pytest
from sqlalchemy import make_url

from tests.secrets import LOGIN, PASSWORD, USER, assert_nothing_secret
from tests.vroom_features.commands import command
from tests.vroom_features.files import write_csvs
from vroom_features.addresses import ServiceAddress
from vroom_features.database.backup import back_up
from vroom_features.errors import (
    BackupError,
    NoSnapshotError,
    OfflineStoreError,
    SkewError,
    VroomFeaturesError,
)
from vroom_features.offline.snapshots import OfflineStore
from vroom_features.settings import Settings

NOBODY = "127.0.0.1:1"


@pytest.mark.parametrize(
    ("url", "shown"),
    [
        ("redis://:s3cret@host:6379/0?password=s3cret", "redis://host:6379/0"),
        ("redis+cluster://addressuser:s3cret@[::1]:7000", "redis+cluster://[::1]:7000"),
        ("redis://host/0?password=s3cret@1", "redis://host/0"),
        ("unix:///run/a@b.sock?password=s3cret@1", "unix:///run/a@b.sock"),
        ("unix://addressuser:s3cret@/run/redis.sock", "unix:///run/redis.sock"),
        ("postgresql://addressuser:s3cret%40@host:5432/db?password=s3cret", "postgresql://host:5432/db"),
        ("postgresql://addressuser:s3cret/1@host/db", "postgresql://..."),
        ("http://addressuser@host:5000/mlflow/?a=s3cret#s3cret", "http://host:5000/mlflow/"),
        ("https://addressuser:12?s3cret@host", "https://..."),
        ("s3://bucket/a@b", "s3://bucket/a@b"),
        ("addressuser:s3cret@host:8786", "host:8786"),
        ("sqlite:////var/lib/a@b/vroom.db", "sqlite:////var/lib/a@b/vroom.db"),
        ("/mnt/a@b:c/offline?", "/mnt/a@b:c/offline?"),
        ("local:4", "local:4"),
        ("", ""),
    ],
)
def test_an_address_is_shown_without_what_is_secret_in_it(url: str, shown: str) -> None:
    address = ServiceAddress(url)
    assert str(address) == f"{address}" == "%s" % address == shown  # noqa: UP031
    assert repr(address) == f"ServiceAddress({shown!r})"
    assert pickle.loads(pickle.dumps(address)) == address == ServiceAddress(address)
    assert address.url == url


@pytest.mark.parametrize(
    ("url", "credentials"),
    [
        (f"http://{LOGIN}@host", (USER, PASSWORD)),
        ("http://addressuser@host", (USER, "")),
        ("redis://:a:b@[::1]:6379", ("", "a:b")),
        ("redis://addressuser:a@b@host", (USER, "a@b")),
        ("http://host/a:b@c", None),
        ("/mnt/a@b", None),
    ],
)
def test_user_and_password_are_at_hand_for_the_client(url: str, credentials: tuple[str, str] | None) -> None:
    assert ServiceAddress(url).credentials == credentials


def test_settings_show_no_secret_and_hand_out_whole_addresses() -> None:
    urls = {
        "database_url": f"postgresql://{LOGIN}@db/vroom?sslpassword=s3cret",
        "offline_url": f"s3://{LOGIN}@bucket/vroom",
        "redis_url": f"redis://{LOGIN}@redis:6379/0",
        "mlflow_uri": f"http://{LOGIN}@mlflow:5000",
        "prefect_url": f"http://{LOGIN}@prefect:4200",
    }
    settings = Settings(_env_file=None, **urls)
    assert_nothing_secret(f"{settings!r} {settings.model_dump()} {settings.model_dump_json()}")
    assert '"redis_url":"redis://redis:6379/0"' in settings.model_dump_json()
    addresses = (settings.source_database, settings.offline_store, settings.redis, settings.mlflow)
    assert [address.url for address in (*addresses, settings.prefect)] == list(urls.values())
    assert Settings(_env_file=None, **settings.model_dump()) == settings


AWAY = {
    "--db": f"postgresql://{LOGIN}@{NOBODY}/vroom?sslpassword=s3cret",
    "--redis-url": f"redis://{LOGIN}@{NOBODY}/0",
    "--offline": f"s3://{LOGIN}@bucket/vroom",
}
WRONG = {
    "--db": "postgresql://addressuser:p@s3cret@127.0.0.1:1/vroom",
    "--redis-url": "redis://addressuser:s3cret/1@127.0.0.1:1/0",
    "--offline": "s3://addressuser:s3cret/1@bucket/vroom",
}
COMMANDS = [
    "seed --db",
    "materialize --redis-url= --db",
    "materialize --redis-url= --db vroom.db --offline",
    "materialize --db vroom.db --redis-url",
    "backup --to made --db",
    "restore --from dump --db",
]


@pytest.fixture(scope="module")
def seeded(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a folder with CSVs, a database seeded from them, and a file that is no dump."""
    folder = tmp_path_factory.mktemp("seeded")
    write_csvs(folder / "data")
    assert command(folder, "seed", "--db", "vroom.db").returncode == 0
    (folder / "dump").write_text("no dump")
    return folder


@pytest.mark.parametrize("words", COMMANDS)
def test_the_error_of_a_command_repeats_no_secret(seeded: Path, words: str) -> None:
    endpoint = {"AWS_ENDPOINT_URL_S3": f"http://{NOBODY}", "AWS_MAX_ATTEMPTS": "1"}
    *others, option = words.split()
    for urls in (AWAY, WRONG):
        done = command(seeded, *others, option, urls[option], **endpoint)
        assert done.returncode == 1
        assert_nothing_secret(done.stdout + done.stderr)


def test_a_password_that_libpq_cannot_read_works_and_is_not_shown(tmp_path: Path, postgres_url: str) -> None:
    parsed = make_url(postgres_url).set(password="s3cret")
    url = parsed.render_as_string(hide_password=False).replace(":s3cret@", ":s3cret-50%off@")
    write_csvs(tmp_path / "data")
    done = command(tmp_path, "seed", "--db", url)
    assert done.returncode == 0, done.stderr
    assert command(tmp_path, "materialize", "--db", url, "--redis-url", "").returncode == 0
    gone = command(tmp_path, "materialize", "--db", url.replace("/t", "/none_t"), "--redis-url", "")
    assert (gone.returncode, "does not exist" in gone.stderr) == (1, True)
    assert "s3cret" not in gone.stderr


def test_pg_dump_gets_no_password_in_its_arguments(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    program = tmp_path / "pg_dump"
    program.write_text('#!/bin/sh\necho "$PGPASSWORD" > "$0.password"\necho "$*" >&2\nexit 1\n')
    program.chmod(0o700)
    monkeypatch.setenv("PATH", f"{tmp_path}{os.pathsep}{os.environ['PATH']}")
    for url in ("postgresql://:s3cret@host/db", "postgresql://host/db?password=s3cret"):
        with pytest.raises(BackupError, match="host=host") as error:
            back_up(url, tmp_path / "made")
        assert_nothing_secret(str(error.value))
        assert (tmp_path / "pg_dump.password").read_text() == "s3cret\n"


@pytest.mark.parametrize(
    ("url", "problem"),
    [
        (f"memory://{LOGIN}@bucket/none", "memory://bucket/none holds no snapshot"),
        (f"gs://{LOGIN}@bucket", "install gcsfs"),
        (f"s4://{LOGIN}@bucket", "Protocol not known: s4"),
        (WRONG["--offline"], "an @ comes after the host"),
    ],
)
def test_the_error_of_an_offline_store_names_the_problem_and_no_secret(url: str, problem: str) -> None:
    with pytest.raises(OfflineStoreError, match=problem) as error:
        OfflineStore(url).current()
    assert_nothing_secret(f"{error.value} {error.value.__cause__}")


@pytest.mark.parametrize("error", [SkewError(7, "price_diff", 1.0, 2.0), NoSnapshotError("var/offline")])
def test_an_error_comes_out_of_another_process_as_it_went_in(error: VroomFeaturesError) -> None:
    again = pickle.loads(pickle.dumps(error))
    assert (type(again), str(again), vars(again)) == (type(error), str(error), vars(error))
