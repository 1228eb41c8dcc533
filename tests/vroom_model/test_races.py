"""Promotions in real processes: at the same time, on both databases, and cut off by SIGKILL."""

import signal
import subprocess
import sys
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import httpx
import pytest
import redis as redis_py

from tests.snapshots import FrameSnapshot
from tests.vroom_model.champions import Champions
from tests.vroom_model.promoter import Task
from vroom_features.stores.source import SourceStore
from vroom_model.boosting import TrainingParams
from vroom_model.ledger import Ledger
from vroom_model.messages import ModelPromoted
from vroom_model.promotion import Decision
from vroom_model.registry import Registry
from vroom_model.succession import Outcome
from vroom_model.training import TrainedModel, train

ROOT = Path(__file__).parents[2]
TIMEOUT_S = 120
WEAK, MIDDLING = TrainingParams(num_rounds=2), TrainingParams(num_rounds=8)
Process = subprocess.Popen[str]


@pytest.fixture
def source(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[SourceStore]:
    """Return a source database that holds nothing."""
    is_sqlite = getattr(request, "param", "sqlite") == "sqlite"
    url = f"sqlite:///{tmp_path / 'vroom.db'}" if is_sqlite else request.getfixturevalue("postgres_url")
    store = SourceStore.open(url)
    yield store
    store.close()


@pytest.fixture
def champions(registry: Registry, source: SourceStore, tmp_path: Path) -> Champions:
    """Return the means to train, register and promote, on either database."""
    return Champions(registry, Ledger(source.engine, registry.model_name), tmp_path)


@pytest.fixture(scope="module")
def weak(fleet: FrameSnapshot, tmp_path_factory: pytest.TempPathFactory) -> TrainedModel:
    """Return a model that each of the others betters."""
    return train(fleet, directory=tmp_path_factory.mktemp("weak"), as_of=fleet.created_at, params=WEAK)


@pytest.fixture(scope="module")
def middling(fleet: FrameSnapshot, tmp_path_factory: pytest.TempPathFactory) -> TrainedModel:
    """Return a model between the two."""
    return train(
        fleet, directory=tmp_path_factory.mktemp("middling"), as_of=fleet.created_at, params=MIDDLING
    )


@pytest.fixture
def task(champions: Champions, source: SourceStore, redis_url: str) -> Task:
    """Return the promotion of the candidate."""
    return Task(
        mlflow=champions.registry.tracking_uri,
        model_name=champions.registry.model_name,
        database=source.url,
        redis=redis_url,
        as_of=champions.moment(),
    )


def start(task: Task) -> Process:
    """Start a process that will say when it is ready, and then wait for the word to go."""
    command = [sys.executable, "-m", "tests.vroom_model.promoter", task.model_dump_json()]
    return subprocess.Popen(
        command, cwd=ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )


def go(*processes: Process) -> list[str]:
    """Give the word once all are ready, and return what each printed."""
    for process in processes:
        assert process.stdout is not None
        if process.stdout.readline() != "ready\n":
            raise AssertionError(process.communicate(timeout=TIMEOUT_S)[1])
    for process in processes:
        assert process.stdin is not None
        process.stdin.write("\n")
        process.stdin.flush()
    return [process.communicate(timeout=TIMEOUT_S)[0] for process in processes]


@pytest.mark.parametrize("source", ["sqlite", "postgresql"], indirect=True)
def test_two_promotions_at_once_leave_one_champion_and_two_true_records(
    champions: Champions,
    fleet: FrameSnapshot,
    task: Task,
    weak: TrainedModel,
    middling: TrainedModel,
    trained: TrainedModel,
) -> None:
    before = champions.register_trained(weak).version.version
    champions.promote(fleet)
    rivals = [champions.register_trained(model).version.version for model in (middling, trained)]
    processes = [start(task.model_copy(update={"version": version})) for version in rivals]
    printed = go(*processes)
    outcomes = {
        version: Outcome.model_validate_json(text) for version, text in zip(rivals, printed, strict=True)
    }

    # Whoever came first, the better one is champion: alone, or after the other.
    assert champions.champion() == rivals[1]
    entries = champions.ledger.entries()
    assert [entry.epoch for entry in entries] == list(range(len(entries), 0, -1))
    assert all(entry.settled for entry in entries)
    served = {entry.epoch: entry.version for entry in entries}
    assert served[1] == before
    promoted = {outcome.epoch: version for version, outcome in outcomes.items() if outcome.promoted}
    assert promoted == {epoch: version for epoch, version in served.items() if epoch > 1}
    for version, outcome in outcomes.items():
        tags = champions.registry.version(version).tags
        assert Decision.model_validate_json(tags["decision"]) == outcome.decision
        rival = outcome.decision.champion_version
        assert rival == (served[outcome.epoch - 1] if outcome.epoch else rivals[1])
        assert tags.get("epoch") == (str(outcome.epoch) if outcome.epoch else None)


@pytest.mark.parametrize("source", ["postgresql"], indirect=True)
def test_two_rollbacks_at_once_go_back_two(
    champions: Champions,
    fleet: FrameSnapshot,
    task: Task,
    weak: TrainedModel,
    middling: TrainedModel,
    trained: TrainedModel,
) -> None:
    versions = []
    for model in (weak, middling, trained):
        versions.append(champions.register_trained(model).version.version)
        assert champions.promote(fleet).promoted
    back = task.model_copy(update={"rollback": True})
    outcomes = [Outcome.model_validate_json(text) for text in go(start(back), start(back))]
    assert sorted(outcome.decision.candidate_version for outcome in outcomes) == versions[:2]
    assert sorted(outcome.epoch or 0 for outcome in outcomes) == [4, 5]
    assert champions.champion() == versions[0]


class KillingProxy:
    """An HTTP proxy that kills a process when it asks to have the champion's alias moved."""

    def __init__(self, target: str) -> None:
        self.victim: Process | None = None
        client = httpx.Client(base_url=target, timeout=30)
        proxy = self

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
                if self.path.endswith("registered-models/alias"):
                    proxy.kill()
                    return
                headers = {"Content-Type": self.headers["Content-Type"]} if body else None
                answer = client.request(self.command, self.path, content=body, headers=headers)
                self.send_response(answer.status_code)
                self.send_header("Content-Length", str(len(answer.content)))
                self.end_headers()
                self.wfile.write(answer.content)

            do_GET = do_POST  # noqa: N815 - as http.server calls it

            def log_message(self, *_: Any) -> None:
                """Stay silent."""

        self._client = client
        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self._server.server_port}"
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.05,))
        self._thread.start()

    def kill(self) -> None:
        """End the process as the kernel would."""
        assert self.victim is not None
        self.victim.kill()
        self.victim.wait(TIMEOUT_S)

    def close(self) -> None:
        """Stop."""
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()
        self._client.close()


@pytest.fixture
def proxy(mlflow_server: str) -> Iterator[KillingProxy]:
    """Return a proxy before MLflow."""
    proxy = KillingProxy(mlflow_server)
    yield proxy
    proxy.close()


def assert_repaired(champions: Champions, version: int, redis: redis_py.Redis) -> None:
    """Check that one look completes the promotion of this version, and a second one does nothing more."""
    cut_off = champions.ledger.head()
    assert cut_off is not None
    assert (cut_off.version, cut_off.settled) == (version, False)
    with redis.pubsub() as heard:  # type: ignore[no-untyped-call]  # of redis-py
        heard.subscribe(ModelPromoted.channel)
        assert heard.get_message(timeout=TIMEOUT_S)["type"] == "subscribe"
        for _ in range(2):
            found = champions.with_publish(
                lambda message: redis.publish(message.channel, message.encode())
            ).champion()
            assert found is not None
            assert found.version == version == champions.champion()
        message = ModelPromoted.decode(heard.get_message(timeout=TIMEOUT_S)["data"])
        assert (message.version, message.epoch) == (version, cut_off.epoch)
        assert heard.get_message(timeout=0.1) is None
    (entry, *_) = champions.ledger.entries()
    assert entry.settled
    assert entry.epoch == cut_off.epoch
    tags = champions.registry.version(version).tags
    decision = Decision.model_validate_json(tags["decision"])
    assert decision.promote
    assert tags["decision_reason"] == decision.reason
    assert tags["epoch"] == str(entry.epoch)


def test_a_process_killed_before_the_alias_is_finished_by_the_next_look(
    champions: Champions, task: Task, weak: TrainedModel, proxy: KillingProxy, redis: redis_py.Redis
) -> None:
    version = champions.register_trained(weak).version.version
    process = start(task.model_copy(update={"mlflow": proxy.url}))
    proxy.victim = process
    go(process)
    assert process.returncode == -signal.SIGKILL
    assert_repaired(champions, version, redis)


@pytest.mark.parametrize("moment", ["before the message", "after the message"])
def test_a_process_killed_at_the_message_is_finished_by_the_next_look(
    champions: Champions, task: Task, weak: TrainedModel, moment: str, redis: redis_py.Redis
) -> None:
    version = champions.register_trained(weak).version.version
    process = start(task.model_copy(update={"die": moment}))
    go(process)
    assert process.returncode == -signal.SIGKILL
    assert_repaired(champions, version, redis)


def test_a_rollback_cut_off_is_finished_and_not_done_twice(
    champions: Champions,
    fleet: FrameSnapshot,
    task: Task,
    weak: TrainedModel,
    trained: TrainedModel,
    redis: redis_py.Redis,
) -> None:
    first = champions.register_trained(weak).version.version
    champions.promote(fleet)
    champions.register_trained(trained)
    champions.promote(fleet)
    process = start(task.model_copy(update={"rollback": True, "die": "before the message"}))
    go(process)
    assert process.returncode == -signal.SIGKILL
    assert_repaired(champions, first, redis)
