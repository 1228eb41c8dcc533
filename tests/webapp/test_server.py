"""The server as it runs for real: granian with two workers."""

import json
import os
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import httpx
import psutil
import pytest

from tests.factories import VEHICLE
from tests.ports import free_port
from tests.webapp.conftest import Promote
from tests.webapp.registry import Models
from tests.webapp.waiting import wait_until
from vroom_features.online.store import OnlineStore
from vroom_features.settings import Settings
from webapp.security.headers import BODY_MAX_BYTES

pytestmark = pytest.mark.shared_app
NUM_WORKERS = 2
BODY = json.dumps(VEHICLE)


@dataclass
class Server:
    port: int
    process: "subprocess.Popen[bytes]"

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    def workers(self) -> dict[int, dict[str, object]]:
        """Return what its workers report, by process id; nothing when the one that answers is killed."""
        own = {child.pid for child in psutil.Process(self.process.pid).children()}
        try:
            found = httpx.get(f"{self.url}/health?all=1", timeout=10).json()["workers"] or []
        except httpx.HTTPError:
            return {}
        by_pid = {int(str(worker["worker"]).rpartition(":")[2]): worker for worker in found}
        return {pid: worker for pid, worker in by_pid.items() if pid in own}

    def serves(self, version: int) -> bool:
        return [worker["model_version"] for worker in self.workers().values()] == [version] * NUM_WORKERS


def environment(settings: Settings, port: int) -> dict[str, str]:
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
    command = [sys.executable, "-m", "webapp"]
    with (
        log_path.open("wb") as log,
        subprocess.Popen(command, env=environment(settings, port), stdout=log, stderr=log) as process,
    ):
        server = Server(port, process)
        try:
            wait_until(lambda: len(server.workers()) == NUM_WORKERS, timeout_s=60)
            yield server
        finally:
            process.terminate()
            process.wait(30)


@pytest.fixture(scope="module")
def server(shared_settings: Settings, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    with running(shared_settings, free_port(), tmp_path_factory.mktemp("log") / "log") as server:
        yield server


@pytest.fixture
def served(server: Server, models: Models, promote: Promote) -> int:
    version = models.register(6.0)
    promote(version)
    wait_until(lambda: server.serves(version), timeout_s=30)
    return version


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


def test_metrics_count_over_all_workers(
    server: Server, models: Models, promote: Promote, settings: Settings
) -> None:
    def counted() -> dict[str, float]:
        lines = httpx.get(f"{server.url}/metrics").text.splitlines()
        pairs = (line.rpartition(" ") for line in lines if line[0] != "#")
        return {name: float(value) for name, _, value in pairs}

    before, num_requests = counted(), 60
    for _ in range(num_requests):
        httpx.post(f"{server.url}/predict", json=VEHICLE)  # a new connection each, so both workers get some
    httpx.post(f"{server.url}/predict", json={})
    saved = httpx.post(f"{server.url}/vehicles", json=VEHICLE).json()["vehicle_id"]
    for vehicle_id, status in ((saved, 200), (saved, 200), (424_242, 404)):
        answer = httpx.post(f"{server.url}/predict/id", json={"vehicle_id": vehicle_id})
        assert answer.status_code == status
    OnlineStore.connect(settings.redis).delete([saved], row_version=2**62)
    answer = httpx.post(f"{server.url}/predict/id", json={"vehicle_id": saved})
    assert answer.json()["source"] == "database"
    version = models.register(7.0)
    promote(version)
    wait_until(lambda: server.serves(version), timeout_s=30)

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

    def by_worker(name: str) -> list[float]:
        return [value for key, value in after.items() if key.startswith(f"{name}{{pid=")]

    assert by_worker("vroom_model_version") == [version] * NUM_WORKERS
    assert by_worker("vroom_listener_subscribed") == [1] * NUM_WORKERS
    assert by_worker("vroom_online_store_up") == [1] * NUM_WORKERS
    received = by_worker("vroom_listener_last_message_timestamp_seconds")
    assert len(received) == NUM_WORKERS
    assert all(abs(time.time() - moment) < 60 for moment in received)


def test_a_full_disk_leaves_the_old_model_and_the_promotion_arrives_when_there_is_room(
    server: Server, served: int, models: Models, promote: Promote, settings: Settings
) -> None:
    workers = [psutil.Process(pid) for pid in server.workers()]
    hard = workers[0].rlimit(psutil.RLIMIT_FSIZE)[1]
    version = models.register(8.0)
    for worker in workers:
        worker.rlimit(psutil.RLIMIT_FSIZE, (100, hard))  # every write beyond fails, as on a full disk
    promote(version)

    def is_refused_by_all() -> bool:
        answers = [httpx.get(f"{server.url}/health").json() for _ in range(8)]  # each worker answers some
        reasons = [str(answer["reasons"]) for answer in answers]
        is_refused = all("cannot keep model version" in text for text in reasons)
        return is_refused and len({answer["worker"] for answer in answers}) == NUM_WORKERS

    wait_until(is_refused_by_all, timeout_s=30)
    health = httpx.get(f"{server.url}/health").json()
    assert (health["status"], health["model_version"]) == ("degraded", served)
    assert httpx.post(f"{server.url}/predict", json=VEHICLE).json()["model_version"] == served
    wait_until(lambda: not list((settings.home / "models").glob(".fetch-*")))  # between two attempts
    for worker in workers:
        worker.rlimit(psutil.RLIMIT_FSIZE, (hard, hard))
    promote(version)  # the registry is seldom read here
    wait_until(lambda: server.serves(version), timeout_s=30)
    wait_until(lambda: httpx.get(f"{server.url}/health").json()["status"] == "ok", timeout_s=30)


def test_a_killed_worker_comes_back_on_the_champion(server: Server, served: int) -> None:
    before = set(server.workers())
    psutil.Process(min(before)).kill()
    wait_until(lambda: set(server.workers()) - before and server.serves(served), timeout_s=60)


def test_the_workers_of_a_killed_server_end_and_free_its_port(settings: Settings, tmp_path: Path) -> None:
    with running(settings, free_port(), tmp_path / "log") as server:
        workers = psutil.Process(server.process.pid).children()
        assert len(workers) == NUM_WORKERS
        server.process.kill()
        _, alive = psutil.wait_procs(workers, timeout=60)
        assert alive == []
        with pytest.raises(httpx.ConnectError):
            httpx.get(f"{server.url}/health", timeout=10)


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


def test_a_worker_that_forecasts_carries_no_trainer_and_no_data_frames(settings: Settings) -> None:
    done = subprocess.run(
        [sys.executable, "-c", FORECASTS],
        env=environment(settings, free_port()),
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert done.stdout.strip() == "[]", done.stderr
