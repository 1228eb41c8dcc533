"""The server as it runs for real: granian with two workers, and nginx in front as deploy/nginx.conf says."""

import json
import re
import socket
import ssl
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import httpx
import psutil
import pytest

from tests.factories import VEHICLE
from tests.ports import free_port
from tests.processes import documented_nginx, needs_nginx
from tests.promises.system import ROOT, Web, command_environment, process_id, wait_until, web_server
from tests.webapp.conftest import Models, Promote
from vroom_features.online.store import OnlineStore
from vroom_features.settings import Settings
from webapp.__main__ import THREADS_A_WORKER
from webapp.security.headers import BODY_MAX_BYTES

NUM_WORKERS = 2
BODY = json.dumps(VEHICLE)


@pytest.fixture(scope="module")
def environment(settings: Settings) -> dict[str, str]:
    return command_environment(
        VROOM_HOME=settings.home,
        VROOM_REDIS_URL=settings.redis.url,
        VROOM_MLFLOW_URI=settings.mlflow.url,
        VROOM_MODEL_NAME=settings.model_name,
        VROOM_WEB_POLL_SECONDS=60,
    )


@pytest.fixture(scope="module")
def server(environment: dict[str, str]) -> Iterator[Web]:
    with web_server(environment, VROOM_WEB_WORKERS=NUM_WORKERS) as server:
        wait_until(lambda: len(server.workers()) == NUM_WORKERS, timeout_s=60)
        yield server


def test_a_body_in_chunks_is_whole_or_refused(server: Web, models: Models) -> None:
    def post(path: str, body: bytes, content_type: str = "application/json") -> int:
        chunks = (body[at : at + 65_536] for at in range(0, len(body), 65_536))
        headers = {"Content-Type": content_type}
        return httpx.post(f"{server.url}{path}", content=chunks, headers=headers, timeout=30).status_code

    longest = BODY.encode().ljust(BODY_MAX_BYTES)
    for path in ("/vehicles", f"/v2/models/{models.name}/infer"):
        assert post(path, longest + b"garbage") == 413
    assert post("/sign-in", b"password=" + longest, "application/x-www-form-urlencoded") == 413
    assert server.get("/vehicles").json()["total"] == 0
    assert [post("/vehicles", body) for body in (longest, BODY.encode())] == [201, 201]


def test_workers_are_counted(server: Web, models: Models, promote: Promote, settings: Settings) -> None:
    def counted() -> dict[str, float]:
        lines = server.get("/metrics").text.splitlines()
        pairs = (line.rpartition(" ") for line in lines if line[0] != "#")
        return {name: float(value) for name, _, value in pairs}

    before, num_requests = counted(), 60
    for body in [VEHICLE] * num_requests + [{}]:
        server.post("/predict", body)
    saved = server.save()
    for vehicle_id, status in ((saved, 200), (saved, 200), (424_242, 404)):
        assert server.post("/predict/id", {"vehicle_id": vehicle_id}).status_code == status
    OnlineStore.connect(settings.redis).delete([saved], row_version=2**62)
    assert server.post("/predict/id", {"vehicle_id": saved}).json()["source"] == "database"
    version = models.register(7.0)
    promote(version)
    wait_until(lambda: list(server.workers().values()) == [version] * NUM_WORKERS)

    after = counted()
    route = 'method="POST",route="/predict"'
    expected = {
        f'vroom_request_seconds_count{{{route},status="200"}}': num_requests,
        f'vroom_request_seconds_count{{{route},status="422"}}': 1,
        'vroom_online_reads_total{outcome="hit"}': 2,
        'vroom_online_reads_total{outcome="miss"}': 1,
        "vroom_vehicles_saved_total": 1,
        'vroom_swaps_total{outcome="ok"}': NUM_WORKERS,
        "vroom_swap_seconds_count": NUM_WORKERS,
        'vroom_listener_messages_total{kind="promoted"}': NUM_WORKERS,
    }
    assert {name: after[name] - before.get(name, 0) for name in expected} == expected
    gauges = {
        "vroom_model_version": version,
        "vroom_listener_subscribed": 1,
        "vroom_online_store_up": 1,
        "vroom_listener_last_message_timestamp_seconds": pytest.approx(time.time(), abs=60),
    }
    for gauge, value in gauges.items():
        found = [after[name] for name in after if name.startswith(f"{gauge}{{pid=")]
        assert found == [value] * NUM_WORKERS, gauge


@pytest.fixture
def proxy_port(server: Web, tmp_path: Path) -> Iterator[int]:
    app = server.url.removeprefix("http://")
    with documented_nginx(tmp_path, port := free_port(), app=app, events=app):
        yield port


@pytest.mark.packaging
@needs_nginx
def test_clients_that_drip_their_bodies_delay_nobody_behind_the_documented_proxy(proxy_port: int) -> None:
    trusting = ssl.create_default_context()
    trusting.check_hostname, trusting.verify_mode = False, ssl.CERT_NONE
    with (
        httpx.Client(base_url=f"https://127.0.0.1:{proxy_port}", verify=trusting, timeout=5) as client,
        ExitStack() as stack,
    ):
        slow = []
        for _ in range(NUM_WORKERS * THREADS_A_WORKER * 2 + 2):
            plain = stack.enter_context(socket.create_connection(("127.0.0.1", proxy_port), 10))
            slow.append(stack.enter_context(trusting.wrap_socket(plain)))
            slow[-1].sendall(b"POST /predict HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Length: 4000\r\n\r\n{")
        for _ in range(5):
            for connection in slow:
                connection.sendall(b" ")
            assert client.post("/predict", json=VEHICLE).raise_for_status().json()["model_version"]


@pytest.mark.packaging
@needs_nginx
@pytest.mark.parametrize("path", ["/metrics", "/metrics/", "//metrics", "/vroom/metrics", "/vroom//metrics"])
def test_the_documented_proxy_does_not_pass_on_requests_for_metrics(proxy_port: int, path: str) -> None:
    assert httpx.get(f"https://127.0.0.1:{proxy_port}{path}", verify=False).status_code == 403


def test_the_workers_of_a_killed_server_end_and_free_its_port(server: Web) -> None:
    workers = [psutil.Process(process_id(name)) for name in server.workers()]
    (process,) = {worker.parent() for worker in workers}
    process.kill()  # no test after this one has the server
    _, alive = psutil.wait_procs(workers, timeout=60)
    assert alive == []
    with pytest.raises(httpx.ConnectError):
        httpx.get(f"{server.url}/health", timeout=10)


@pytest.mark.parametrize(
    ("what", "name", "host", "problem"),
    [
        ("app", "VROOM_WEB_PORT", "127.0.0.1", "Address already in use"),
        ("events", "VROOM_WEB_EVENTS_PORT", "192.0.2.1", "requested address"),
    ],
)
def test_a_server_that_cannot_listen_says_why(what: str, name: str, host: str, problem: str) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        environment = command_environment(**{"VROOM_WEB_HOST": host, name: taken.getsockname()[1]})
        command = [sys.executable, "-m", "webapp", what]
        done = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True)
    assert done.returncode == 2
    assert re.fullmatch(rf"VROOM_WEB_HOST, {name}: .*{problem}.*\n", done.stderr)


HEAVY = {"mlflow", "pandas", "xgboost", "scipy", "pyarrow", "prefect", "sklearn", "matplotlib", "onnx"}
FORECASTS = f"""
import gc, json, sys
from webapp.wsgi import app
assert gc.get_freeze_count() > 50_000, "a full collection would hold requests up"
app.extensions["vroom"].slot.settled.wait(60)
client, vehicle = app.test_client(), json.loads({BODY!r})
saved = client.post("/vehicles", json=vehicle).json["vehicle_id"]
tensors = [{{"name": n, "shape": [1], "datatype": "FP64", "data": [v]}} for n, v in vehicle.items()]
infer = f"/v2/models/{{app.extensions['vroom'].settings.model_name}}/infer"
bodies = {{"/predict": vehicle, "/predict/id": {{"vehicle_id": saved}}, "/predict/batch": [vehicle]}}
for path, body in (bodies | {{infer: {{"inputs": tensors}}}}).items():
    assert client.post(path, json=body).status_code == 200, path
app.extensions["vroom"].close()
print(*sys.modules)
"""


def test_a_worker_that_forecasts_carries_no_trainer_and_no_data_frames(environment: dict[str, str]) -> None:
    done = subprocess.run([sys.executable, "-c", FORECASTS], env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert not HEAVY & {name.partition(".")[0] for name in done.stdout.split()}
