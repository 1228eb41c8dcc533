"""The web app by itself says in one sentence why it cannot listen, and is set by its own settings alone."""

import socket
import subprocess
import sys

import pytest

from tests.promises.system import ROOT, command_environment
from tests.webapp.conftest import running_app
from vroom_features.settings import Settings


@pytest.mark.parametrize("what", ["app", "events"])
@pytest.mark.parametrize(
    ("host", "problem"), [("127.0.0.1", "Address already in use"), ("192.0.2.1", "requested address")]
)
def test_a_server_that_cannot_listen_says_why(what: str, host: str, problem: str) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        name = "VROOM_WEB_EVENTS_PORT" if what == "events" else "VROOM_WEB_PORT"
        environment = command_environment(**{"VROOM_WEB_HOST": host, name: port})
        command = [sys.executable, "-m", "webapp", what]
        done = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True)
    assert done.returncode == 2
    assert done.stderr.startswith(f"VROOM_WEB_HOST, {name}: ")
    assert problem in done.stderr
    assert done.stderr.count("\n") == 1


def test_a_flask_debug_of_the_machine_counts_for_nothing(
    settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("FLASK_DEBUG", "1")
    with running_app(settings) as app:
        monkeypatch.setattr(app.extensions["vroom"].source.engine, "connect", None)
        assert app.test_client().get("/vehicles").status_code == 500
