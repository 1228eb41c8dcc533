"""`make run` on a machine that sets everything that can be in its way: the environment, the folder, IPv6."""

import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest

from tests.promises.system import ROOT, System, running
from tests.vroom_features.test_settings import ODD

NOBODY = "http://127.0.0.1:9"
VARIABLES = {
    "VROOM_WEB_HOST": "::1",
    "VROOM_WEB_TRUSTED_HOSTS": "https://Forecast.Example.com:8443/",
    "HTTP_PROXY": NOBODY,
    "https_proxy": NOBODY,
    "ALL_PROXY": "socks5://127.0.0.1:9",
    "no_proxy": "[::1],fe80::/10,10.0.0.0/8",
    "SSL_CERT_FILE": "/gone.pem",
    "REQUESTS_CA_BUNDLE": "/gone.pem",
    "MLFLOW_GUNICORN_OPTS": "--bind 127.0.0.1:9",
    "MLFLOW_TRACKING_URI": NOBODY,
    "MLFLOW_PORT": "9",
    "MLFLOW_BACKEND_STORE_URI": "sqlite:////gone/mlflow.db",
    "PREFECT_API_DATABASE_CONNECTION_URL": "sqlite+aiosqlite:////gone/prefect.db",
    "PREFECT_PROFILES_PATH": "/gone.toml",
    "PREFECT_API_URL": f"{NOBODY}/api",
    "PREFECT_HOME": "/dev/null",
    "PREFECT_SERVER_API_AUTH_STRING": "user:password",
    "PYTHONHOME": "/gone",
    "PYTHONPATH": "/gone",
    "PYTHONSTARTUP": "/gone.py",
    "PYTHONWARNINGS": "error",
    "FLASK_DEBUG": "1",
    "GRANIAN_PORT": "9",
    "GUNICORN_CMD_ARGS": "--bind 127.0.0.1:9",
    "UVICORN_PORT": "9",
    "WEB_CONCURRENCY": "3",
    "PROMETHEUS_MULTIPROC_DIR": "/gone",
}


@pytest.fixture(scope="module")
def system() -> Iterator[System]:
    with tempfile.TemporaryDirectory(prefix="odd-") as folder:  # a short path, for the socket in it
        home = Path(folder) / ODD
        with running(home, shutil.copytree(ROOT / "data", home / "csv"), VARIABLES) as started:
            yield started


@pytest.mark.packaging
@pytest.mark.timeout(500)
def test_the_system_starts_and_keeps_everything_in_its_folder(system: System) -> None:
    assert system.forecast()[1] == 1
    assert f"http://[::1]:{system.port}/sign-in?token=" in system.output
    for name in ("ALL_PROXY", "SSL_CERT_FILE", "NO_PROXY", "MLFLOW_GUNICORN_OPTS", "PREFECT_PROFILES_PATH"):
        assert name in system.output, name
    assert [path.name for path in system.home.parent.iterdir()] == [ODD]
    files = {str(path.relative_to(system.home)) for path in system.home.rglob("*.db")}
    assert files == {"vroom.db", "mlflow/mlflow.db", "prefect/prefect.db"}


@pytest.mark.packaging
def test_streams_and_names_work_on_ipv6(system: System) -> None:
    page = httpx.get(f"{system.url}/fleet")
    assert page.is_success
    streams = f"http://[::1]:{system.environment['VROOM_WEB_EVENTS_PORT']}/events"
    assert streams in page.text
    with httpx.stream("GET", streams, headers={"Origin": system.url}) as stream:
        assert stream.headers["Access-Control-Allow-Origin"] == system.url
    for host, status in {
        "FORECAST.example.com": 200,
        "[::1]": 200,
        "[::2]": 400,
        "a.example.com": 400,
    }.items():
        assert httpx.get(f"{system.url}/health", headers={"Host": host}).status_code == status, host
