"""The server as it runs for real: granian with two workers."""

import json
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path

import httpx
import psutil
import pytest
import redis as redis_py

from tests.factories import VEHICLE
from tests.ports import free_port
from tests.webapp.conftest import Promote
from tests.webapp.registry import Models
from tests.webapp.waiting import wait_until
from vroom_features.online.store import OnlineStore
from vroom_features.settings import Settings
from webapp.security.headers import BODY_MAX_BYTES

NUM_WORKERS = 2
BODY = json.dumps(VEHICLE)


@dataclass
class Server:
    """A running server."""

    port: int
    process: "subprocess.Popen[bytes]"

    @property
    def url(self) -> str:
        """Address of the app."""
        return f"http://127.0.0.1:{self.port}"

    def workers(self) -> list[dict[str, object]]:
        """Return what every worker says of itself."""
        return httpx.get(f"{self.url}/health?all=1", timeout=10).json()["workers"] or []


def environment(settings: Settings, port: int) -> dict[str, str]:
    """Return the environment of a server with these settings."""
    return os.environ | {
        "VROOM_HOME": str(settings.home),
        "VROOM_REDIS_URL": settings.redis.url,
        "VROOM_MLFLOW_URI": settings.mlflow.url,
        "VROOM_MODEL_NAME": settings.model_name,
        "VROOM_WEB_POLL_SECONDS": "60",
        "VROOM_WEB_PORT": str(port),
        "VROOM_WEB_WORKERS": str(NUM_WORKERS),
    }


@contextmanager
def running(settings: Settings, port: int, log_path: Path) -> Iterator[Server]:
    """Run the app with two workers."""
    command = [sys.executable, "-m", "webapp"]
    with (
        log_path.open("wb") as log,
        subprocess.Popen(command, env=environment(settings, port), stdout=log, stderr=log) as process,
    ):
        server = Server(port, process)

        def is_up() -> bool:
            own = {child.pid for child in psutil.Process(process.pid).children()}
            try:
                told = {int(str(worker["worker"]).rpartition(":")[2]) for worker in server.workers()}
            except httpx.HTTPError:
                return False
            return len(own & told) == NUM_WORKERS

        try:
            wait_until(is_up, timeout_s=60)
            yield server
        finally:
            process.terminate()
            process.wait(30)


@pytest.fixture
def server(settings: Settings, champion: int, tmp_path: Path) -> Iterator[Server]:
    """Start the app with two workers."""
    with running(settings, free_port(), tmp_path / "log") as server:
        yield server


def test_a_body_in_chunks_is_whole_or_refused(server: Server, models: Models) -> None:
    def post(path: str, body: bytes, content_type: str) -> int:
        chunks = (body[at : at + 65_536] for at in range(0, len(body), 65_536))
        headers = {"Content-Type": content_type}
        return httpx.post(f"{server.url}{path}", content=chunks, headers=headers, timeout=30).status_code

    json_body = BODY.encode()
    too_long = json_body + b" " * (BODY_MAX_BYTES - len(json_body)) + b"garbage"
    assert post("/vehicles", too_long, "application/json") == 413
    assert post(f"/v2/models/{models.name}/infer", too_long, "application/json") == 413
    form = b"password=" + b"a" * BODY_MAX_BYTES
    assert post("/sign-in", form, "application/x-www-form-urlencoded") == 413
    assert httpx.get(f"{server.url}/vehicles").json()["total"] == 0
    assert post("/vehicles", too_long[:BODY_MAX_BYTES], "application/json") == 201
    assert post("/vehicles", json_body, "application/json") == 201


def test_a_stopped_server_finishes_what_is_in_flight_and_takes_no_more(server: Server) -> None:
    head = "POST /predict HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Type: application/json\r\n"
    with ExitStack() as stack:
        clients = [
            stack.enter_context(socket.create_connection(("127.0.0.1", server.port), 20))
            for _ in range(4 * NUM_WORKERS)
        ]
        for client in clients:
            client.sendall(f"{head}Content-Length: {len(BODY)}\r\n\r\n{BODY[:10]}".encode())
        server.workers()  # connections are taken in turn, so those before it are
        server.process.send_signal(signal.SIGTERM)
        wait_until(lambda: is_refused(server.port))
        for client in clients:
            client.sendall(BODY[10:].encode())
        assert {client.recv(15) for client in clients} == {b"HTTP/1.1 200 OK"}
    assert server.process.wait(20) == 0


def is_refused(port: int) -> bool:
    """Tell whether nobody listens on a port any more."""
    try:
        socket.create_connection(("127.0.0.1", port), 5).close()
    except ConnectionRefusedError:
        return True
    except OSError:  # reset
        return False
    return False


def test_a_full_disk_leaves_the_old_model_and_the_promotion_arrives_when_there_is_room(
    server: Server, champion: int, models: Models, promote: Promote, settings: Settings
) -> None:
    workers = [psutil.Process(int(str(w["worker"]).rpartition(":")[2])) for w in server.workers()]
    hard = workers[0].rlimit(psutil.RLIMIT_FSIZE)[1]
    version = models.register(6.0)
    for worker in workers:
        worker.rlimit(psutil.RLIMIT_FSIZE, (100, hard))  # every write beyond fails, as on a full disk
    promote(version)

    def problems() -> list[str]:
        return [str(worker["problem"]) for worker in server.workers()]

    wait_until(lambda: all("cannot keep model version" in problem for problem in problems()), timeout_s=30)
    health = httpx.get(f"{server.url}/health").json()
    assert (health["status"], health["model_version"]) == ("degraded", champion)
    assert httpx.post(f"{server.url}/predict", json=VEHICLE).json()["model_version"] == champion
    wait_until(lambda: not list((settings.home / "models").glob(".fetch-*")))  # between two attempts
    for worker in workers:
        worker.rlimit(psutil.RLIMIT_FSIZE, (hard, hard))
    promote(version)  # a look at the registry, which is seldom here
    wait_until(lambda: [w["model_version"] for w in server.workers()] == [version] * NUM_WORKERS)
    wait_until(lambda: problems() == ["None"] * NUM_WORKERS)


def test_a_killed_worker_comes_back_on_the_champion(server: Server, models: Models, promote: Promote) -> None:
    version = models.register(6.0)
    promote(version)
    wait_until(lambda: [w["model_version"] for w in server.workers()] == [version] * NUM_WORKERS)
    before = {str(worker["worker"]) for worker in server.workers()}
    victim = int(before.copy().pop().rpartition(":")[2])
    psutil.Process(victim).kill()

    def is_replaced() -> bool:
        try:
            now = {str(w["worker"]): w["model_version"] for w in server.workers()}
        except httpx.HTTPError:
            return False
        return any(worker not in before and served == version for worker, served in now.items())

    wait_until(is_replaced, timeout_s=30)


def test_the_workers_of_a_killed_server_end_and_free_its_port(server: Server) -> None:
    workers = psutil.Process(server.process.pid).children()
    assert len(workers) == NUM_WORKERS
    server.process.kill()
    _, alive = psutil.wait_procs(workers, timeout=60)
    assert alive == []
    with pytest.raises(httpx.ConnectError):
        httpx.get(f"{server.url}/live", timeout=10)


def test_metrics_count_over_all_workers(
    server: Server, champion: int, models: Models, promote: Promote, redis: redis_py.Redis
) -> None:
    num_requests = 60
    for _ in range(num_requests):
        httpx.post(f"{server.url}/predict", json=VEHICLE)  # a new connection each, so both workers get some
    httpx.post(f"{server.url}/predict", json={})
    saved = httpx.post(f"{server.url}/vehicles", json=VEHICLE).json()["vehicle_id"]
    for vehicle_id, status in ((saved, 200), (saved, 200), (4242, 404)):
        answer = httpx.post(f"{server.url}/predict/id", json={"vehicle_id": vehicle_id})
        assert answer.status_code == status
    OnlineStore(redis).delete([saved], row_version=2**62)
    answer = httpx.post(f"{server.url}/predict/id", json={"vehicle_id": saved})
    assert answer.json()["source"] == "database"
    version = models.register(6.0)
    promote(version)
    wait_until(lambda: [w["model_version"] for w in server.workers()] == [version] * NUM_WORKERS)

    def counted() -> dict[str, float]:
        lines = httpx.get(f"{server.url}/metrics").text.splitlines()
        pairs = (line.rpartition(" ") for line in lines if line[0] != "#")
        return {name: float(value) for name, _, value in pairs}

    def by_worker(name: str) -> list[float]:
        return [value for key, value in counted().items() if key.startswith(f"{name}{{pid=")]

    found = counted()
    route = 'method="POST",route="/predict"'
    assert found[f'vroom_request_seconds_count{{{route},status="200"}}'] == num_requests
    assert found[f'vroom_request_seconds_count{{{route},status="422"}}'] == 1
    assert found['vroom_online_reads_total{outcome="hit"}'] == 2
    assert found['vroom_online_reads_total{outcome="miss"}'] == 1
    assert found["vroom_vehicles_saved_total"] == 1
    assert found['vroom_swaps_total{outcome="ok"}'] == 2 * NUM_WORKERS
    assert found["vroom_swap_seconds_count"] == 2 * NUM_WORKERS
    assert found['vroom_listener_messages_total{kind="promoted"}'] == NUM_WORKERS
    assert by_worker("vroom_model_version") == [version] * NUM_WORKERS
    assert by_worker("vroom_listener_subscribed") == [1] * NUM_WORKERS
    assert by_worker("vroom_online_store_up") == [1] * NUM_WORKERS
    heard = by_worker("vroom_listener_last_message_timestamp_seconds")
    assert len(heard) == NUM_WORKERS
    assert all(abs(time.time() - moment) < 60 for moment in heard)


HEAVY = ("mlflow", "pandas", "xgboost", "scipy", "pyarrow", "prefect", "sklearn", "matplotlib", "onnx")
FORECASTS = f"""
import gc, json, sys
from webapp.wsgi import app
assert gc.get_freeze_count() > 50_000, "a full collection would hold requests up"
client, vehicle = app.test_client(), json.loads({BODY!r})
saved = client.post("/vehicles", json=vehicle).json["vehicle_id"]
tensors = [{{"name": n, "shape": [1], "datatype": "FP64", "data": [v]}} for n, v in vehicle.items()]
infer = f"/v2/models/{{app.extensions['vroom'].settings.model_name}}/infer"
bodies = {{"/predict": vehicle, "/predict/id": {{"vehicle_id": saved}}, "/predict/batch": [vehicle]}}
for path, body in (bodies | {{infer: {{"inputs": tensors}}}}).items():
    assert client.post(path, json=body).status_code == 200, path
app.extensions["vroom"].close()
print(sorted({{name.split(".")[0] for name in sys.modules}} & set({HEAVY!r})))
"""


def test_a_worker_that_forecasts_carries_no_trainer_and_no_data_frames(
    settings: Settings, champion: int
) -> None:
    done = subprocess.run(
        [sys.executable, "-c", FORECASTS],
        env=environment(settings, free_port()),
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert done.stdout.strip() == "[]", done.stderr
