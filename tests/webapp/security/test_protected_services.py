"""MLflow and Prefect that ask who calls, or are not there: sign in, or name what answers instead."""

import os
import sys
import uuid
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from pathlib import Path

import pytest
from werkzeug.wrappers import Request, Response

from tests.faults import served
from tests.ports import free_port
from tests.processes import is_up, serve_mlflow
from tests.promises.system import started
from tests.secrets import LOGIN, PASSWORD, USER, assert_nothing_secret
from vroom_model.errors import RegistryError
from vroom_model.registry.registry import Registry
from webapp.prefect_client import PrefectClient, WorkflowError

BASIC = {"MLFLOW_TRACKING_USERNAME": USER, "MLFLOW_TRACKING_PASSWORD": PASSWORD}
LOGIN_PAGE = "<!doctype html><title>Sign in</title>"
JSON = {"content_type": "application/json"}


def ask_mlflow(url: str) -> object:
    with Registry(url, "vroom") as registry:
        return registry.champion()


def ask_prefect(url: str) -> object:
    with closing(PrefectClient(url)) as prefect:
        return prefect.start("train")


def problem(ask: Callable[[str], object], answer: Response) -> str:
    """Return the error where everything is answered so."""
    with (
        served(Request.application(lambda _request: answer)) as url,
        pytest.raises((RegistryError, WorkflowError)) as error,
    ):
        ask(url)
    for words in ("Expecting value", "is it deployed?", "s3cret"):
        assert words not in str(error.value)
    return str(error.value)


@pytest.mark.parametrize(
    ("ask", "name", "login"),
    [
        (
            ask_mlflow,
            "MLflow",
            "MLFLOW_TRACKING_USERNAME and MLFLOW_TRACKING_PASSWORD, or MLFLOW_TRACKING_TOKEN",
        ),
        (ask_prefect, "Prefect", "PREFECT_API_AUTH_STRING or PREFECT_API_KEY"),
    ],
)
def test_what_answers_instead_is_named(ask: Callable[[str], object], name: str, login: str) -> None:
    is_it = f"is VROOM_{name.upper()}_{'URI' if name == 'MLflow' else 'URL'} the address of {name}?"
    sign_in = {"Location": "https://sign-in.example/?token=s3cret"}
    for answer, expected in (
        (Response("who are you?", 401), f"{name} refused the user name and password (401): set {login}"),
        (Response('{"exception_message":"Unauthorized"}', 401, **JSON), f"set {login}"),
        (Response(LOGIN_PAGE, 401), f"set {login}"),
        (Response("Permission denied", 403), f"{name} does not allow this (403)"),
        (Response("", 302, sign_in), f"{name} sends to another page, perhaps to sign in (302): {is_it}"),
        (Response(LOGIN_PAGE), f"{name} answers with a web page (200): {is_it}"),
        (Response(f"\n{LOGIN_PAGE}", 404), f"{name} answers with a web page (404): {is_it}"),
        (Response('{"detail":"Not Found"}', 404, **JSON), f"{name} has no such path (404): {is_it}"),
        (Response("gone", 404), f"{name} has no such path (404): {is_it}"),
        (Response("fine"), "Prefect answers 200 to GET" if name == "Prefect" else "200 and no JSON"),
        (Response(""), "Prefect answers 200 to GET" if name == "Prefect" else "is not a model version"),
    ):
        assert expected in problem(ask, answer)
    missing = Response('{"detail":"Deployment not found"}', 404, **JSON)
    if name == "Prefect":
        assert "no deployment vroom_forecast_pipeline; run: prefect deploy --all" in problem(ask, missing)


@pytest.mark.parametrize(
    ("ask", "environment", "sent"),
    [
        (ask_mlflow, BASIC, (USER, PASSWORD)),
        (ask_mlflow, {"MLFLOW_TRACKING_TOKEN": "abc\n"}, "abc"),
        (ask_mlflow, BASIC | {"MLFLOW_TRACKING_TOKEN": "abc"}, (USER, PASSWORD)),
        (ask_mlflow, {}, None),
        (ask_prefect, {"PREFECT_API_AUTH_STRING": f"{USER}:{PASSWORD}"}, (USER, PASSWORD)),
        (ask_prefect, {"PREFECT_API_KEY": "abc"}, "abc"),
        (ask_prefect, {}, None),
    ],
)
def test_the_variables_of_mlflow_and_prefect_sign_in(
    monkeypatch: pytest.MonkeyPatch, ask: Callable[[str], object], environment: dict[str, str], sent: object
) -> None:
    received = []

    @Request.application
    def refuse(request: Request) -> Response:
        received.append(request.authorization)
        return Response(status=401)

    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    with served(refuse) as url:
        for address in (url, url.replace("://", f"://other-{LOGIN}@")):
            with pytest.raises((RegistryError, WorkflowError)) as error:
                ask(address)
            assert_nothing_secret(f"{error.value} {error.value.__cause__}")
    first, second = received
    assert (first and (first.token or (first.username, first.password))) == sent
    assert (second.username, second.password) == (f"other-{USER}", PASSWORD)  # the address comes first


@contextmanager
def serve_prefect(folder: Path, auth_string: str) -> Iterator[str]:
    """Serve Prefect, which asks for this login, on a free port; yield its address."""
    url = f"http://127.0.0.1:{(port := free_port())}"
    environment = os.environ | {
        "PREFECT_SERVER_API_AUTH_STRING": auth_string,
        "PREFECT_HOME": str(folder),
        "PREFECT_API_URL": f"{url}/api",
        "PREFECT_SERVER_ANALYTICS_ENABLED": "false",
    }
    command = [sys.executable, "-m", "prefect", "server", "start", "--host", "127.0.0.1", "--port", str(port)]
    with started(command, lambda: is_up(f"{url}/api"), environment=environment, log=folder / "log"):
        yield url


@pytest.mark.packaging
def test_a_real_prefect_lets_its_login_in_alone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with serve_prefect(tmp_path, f"{USER}:{PASSWORD}") as url:
        with pytest.raises(WorkflowError, match=r"refused the user name and password \(401\)"):
            ask_prefect(url)
        monkeypatch.setenv("PREFECT_API_AUTH_STRING", f"{USER}:{PASSWORD}")
        with pytest.raises(WorkflowError, match="no deployment vroom_forecast_pipeline; run: prefect deploy"):
            ask_prefect(url)
        with closing(PrefectClient(url)) as prefect:
            assert prefect.recent() == []


@pytest.mark.packaging
def test_a_real_mlflow_lets_its_user_in_alone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    config = tmp_path / "auth.ini"
    config.write_text(
        f"[mlflow]\ndefault_permission = READ\ndatabase_uri = sqlite:///{tmp_path}/auth.db\n"
        f"admin_username = {USER}\nadmin_password = {PASSWORD}\n"
        "authorization_function = mlflow.server.auth:authenticate_request_basic_auth\n"
    )
    monkeypatch.setenv("MLFLOW_AUTH_CONFIG_PATH", str(config))
    monkeypatch.setenv("MLFLOW_FLASK_SERVER_SECRET_KEY", uuid.uuid4().hex)
    with serve_mlflow(tmp_path, sys.executable, "--app-name", "basic-auth") as url:
        with pytest.raises(RegistryError, match=r"refused the user name and password \(401\)"):
            ask_mlflow(url)
        for name, value in BASIC.items():
            monkeypatch.setenv(name, value)
        assert ask_mlflow(url) is None
        with Registry(url, "vroom") as registry:
            registry.api.post("registered-models/create", {"name": "vroom"})
            assert registry.versions() == []
