"""Whoever reads the web app or its log finds no password of an address in it."""

import logging
import uuid
from collections.abc import Iterator
from pathlib import Path

import pytest
import redis as redis_py
from sqlalchemy import make_url

from tests.ports import free_port
from tests.promises.system import wait_until
from tests.secrets import LOGIN, PASSWORD, USER, assert_nothing_secret
from tests.webapp.conftest import HTML, OPERATOR, Models, make_settings, running_app
from vroom_features.settings import Settings
from webapp.security.rate_limits import Counter

API = ("/health?all=1", "/model", "/stores", "/openapi.json", "/metrics", "/audit", f"/runs/{uuid.uuid4()}")
PAGES = ("/", "/models", "/runs", "/feature-stores", "/system", "/system/audit", "/nowhere")
STARTED = ("/train", "/materialize", "/rollback", "/reload")


@pytest.fixture
def known_user(redis: redis_py.Redis) -> Iterator[None]:
    """Let the user of the addresses into Redis."""
    redis.acl_setuser(
        USER, enabled=True, passwords=[f"+{PASSWORD}"], categories=["+@all"], keys=["*"], channels=["*"]
    )
    yield
    redis.acl_deluser(USER)


def with_login(url: str) -> str:
    return url.replace("://", f"://{LOGIN}@", 1)


def everything_shown(settings: Settings, caplog: pytest.LogCaptureFixture, *, status: str) -> str:
    """Return all that an app with these settings answers and logs, once its health is this."""
    caplog.set_level(logging.INFO, logger="httpx")
    with running_app(settings) as client:
        wait_until(lambda: client.health()["status"] == status, timeout_s=60)
        client.sign_in()  # operators see the most
        shown = [client.get(path, headers=OPERATOR).text for path in API]
        shown += [client.get(path, headers=HTML | OPERATOR).text for path in PAGES]
        shown += [client.post(path, headers=OPERATOR).text for path in STARTED]
    return "\n".join([*shown, caplog.text])


@pytest.mark.usefixtures("known_user", "champion")
def test_a_running_app_shows_no_secret(
    tmp_path: Path,
    postgres_url: str,
    redis_url: str,
    models: Models,
    caplog: pytest.LogCaptureFixture,
) -> None:
    settings = make_settings(
        tmp_path,
        models=models,
        database_url=make_url(postgres_url).set(password=PASSWORD).render_as_string(hide_password=False),
        offline_url=f"memory://{LOGIN}@bucket/{uuid.uuid4().hex}",
        redis_url=with_login(redis_url),
        mlflow_uri=with_login(models.url),
        prefect_url=with_login(f"http://127.0.0.1:{free_port()}"),
    )
    shown = everything_shown(settings, caplog, status="ok")
    assert f'"mlflow_uri":"{models.url}"' in shown
    assert f'href="{models.url}/#/models/{models.name}' in shown
    assert f'"location":"{settings.offline_store}"' in shown
    assert "cannot be reached" in shown
    assert f"HTTP Request: GET {models.url}/api" in caplog.text
    assert_nothing_secret(shown)


def test_an_app_without_its_services_shows_no_secret(
    tmp_path: Path,
    models: Models,
    caplog: pytest.LogCaptureFixture,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    nobody = f"127.0.0.1:{free_port()}"
    monkeypatch.setenv("AWS_ENDPOINT_URL", f"http://{nobody}")
    monkeypatch.setenv("AWS_MAX_ATTEMPTS", "1")
    settings = make_settings(
        tmp_path,
        models=models,
        offline_url=f"s3://{LOGIN}@bucket/vroom",
        redis_url=f"redis://{LOGIN}@{nobody}/0",
        mlflow_uri=f"http://{LOGIN}@{nobody}",
        prefect_url=f"http://{LOGIN}@{nobody}",
    )
    assert_nothing_secret(everything_shown(settings, caplog, status="no_model"))


def test_a_limit_is_counted_on_a_cluster_behind_tls_without_repeating_its_address() -> None:
    with pytest.raises(Exception, match="Redis Cluster cannot be connected") as error:
        Counter(f"rediss+cluster://{LOGIN}@127.0.0.1:{free_port()}")
    assert_nothing_secret(f"{error.value} {error.value.__cause__}")
