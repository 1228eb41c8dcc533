"""Promises 2, 3, 4 and 9: a verified model always serves, the registry decides which, and answers name it."""

import hashlib
import http.client
import json
import shutil
import threading
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from pathlib import Path

import pytest

from tests.ports import free_port
from tests.promises.system import MODEL_NAME, VEHICLE, System, lives, wait_until, web_server

NUM_CLIENTS = 8
NUM_SWAPS = 20
PROMOTED = f"{MODEL_NAME}:model-promoted"
LOADED = f"{MODEL_NAME}:model-loaded"


@pytest.fixture(scope="module")
def champion(system: System) -> int:
    """Return the version that serves when these tests begin."""
    version = system.champion()
    wait_until(lambda: system.serves(version))
    return version


@pytest.fixture(scope="module")
def fresh(system: System, champion: int, challenger: int) -> int:
    """Train a version that no worker has ever loaded."""
    system.run("vroom_forecast_training", seed=12)
    return int(system.registry.get_model_version_by_alias(MODEL_NAME, "candidate").version)


@pytest.fixture(autouse=True)
def champion_serves_at_the_end(system: System, champion: int) -> Iterator[None]:
    """Put the alias back, and see that it is followed."""
    yield
    system.move_alias(champion)
    system.reload()
    wait_until(lambda: system.serves(champion))


@contextmanager
def alias_at(system: System, version: int, *, back_to: int) -> Iterator[None]:
    """Have the registry name another champion for the time of the block."""
    system.move_alias(version)
    try:
        yield
    finally:
        system.move_alias(back_to)


# Promise 3: the registry is the truth, and a message is a hint.


def test_a_promotion_whose_message_is_lost_is_found_in_the_registry(
    system: System, champion: int, challenger: int
) -> None:
    with alias_at(system, challenger, back_to=champion):
        wait_until(lambda: system.serves(challenger))
    wait_until(lambda: system.serves(champion))


def test_a_message_brings_the_champion_where_the_registry_is_seldom_read(
    system: System, champion: int, challenger: int
) -> None:
    with web_server(system.environment, VROOM_WEB_POLL_SECONDS=60) as server:
        assert server.forecast()[1] == champion
        system.move_alias(challenger)
        system.reload()  # by message, in all workers of all servers
        wait_until(lambda: server.forecast()[1] == challenger, timeout_s=10)


def test_the_registry_is_read_after_every_reconnect(system: System, champion: int, challenger: int) -> None:
    with web_server(system.environment, VROOM_WEB_POLL_SECONDS=60) as server:
        wait_until(lambda: server.health()["listener"] == "subscribed")
        system.move_alias(challenger)
        system.redis.client_kill_filter(_type="pubsub")
        wait_until(lambda: server.forecast()[1] == challenger, timeout_s=20)


@pytest.mark.parametrize(
    "payload",
    [
        b"",
        b"\xff\xfe\x00",
        b"[]",
        b'{"version": 1e999}',
        b"x" * 100_000,
        b'{"model_name": "vroom-forecast", "version": 987654}',
        b'{"model_name": "vroom-forecast", "version": 987654, "epoch": 1000000}',
        b'{"model_name": "another", "version": 1}',
    ],
)
def test_a_forged_message_changes_nothing(system: System, champion: int, payload: bytes) -> None:
    for _ in range(3):
        system.redis.publish(PROMOTED, payload)
    system.reload()
    assert system.serves(champion)


def test_messages_repeated_and_out_of_order_end_in_the_right_champion(
    system: System, champion: int, challenger: int
) -> None:
    payloads = [json.dumps({"model_name": MODEL_NAME, "version": v}) for v in (champion, challenger)]
    system.move_alias(challenger)
    for payload in [*payloads, *reversed(payloads), *payloads]:
        system.redis.publish(PROMOTED, payload)
    wait_until(lambda: system.serves(challenger))


# Promise 2: once a model served, some verified model always serves.


def cut_off(file: Path) -> None:
    """Lose the second half of a file."""
    content = file.read_bytes()
    file.write_bytes(content[: len(content) // 2])


def flip_a_bit(file: Path) -> None:
    """Change one bit in the middle."""
    content = bytearray(file.read_bytes())
    content[len(content) // 2] ^= 1
    file.write_bytes(content)


def put_a_pickle(file: Path) -> None:
    """Put what would write a file if anything unpickled it."""
    file.write_bytes(b"cos\nsystem\n(S'touch %s'\ntR." % str(file.with_name("unpickled")).encode())


@contextmanager
def spoiled(system: System, version: int, spoil: Callable[[Path], object]) -> Iterator[Path]:
    """Spoil every file of a version in MLflow's artifact store for the time of the block."""
    run_id = system.registry.get_model_version(MODEL_NAME, str(version)).run_id
    (folder,) = (path for path in system.home.glob(f"**/{run_id}") if path.is_dir())
    aside = folder.with_name(f"{run_id}-aside")
    shutil.copytree(folder, aside)
    try:
        for file in [path for path in folder.rglob("*") if path.is_file()]:
            spoil(file)
        yield folder
    finally:
        shutil.rmtree(folder)
        aside.rename(folder)


def is_degraded(system: System) -> bool:
    """Tell whether every worker says that it cannot take the champion, and the app why."""
    health = system.health()
    problems = [worker["problem"] for worker in health["workers"] if lives(worker)]
    return health["status"] == "degraded" and bool(health["reasons"]) and all(problems)


@pytest.mark.parametrize("spoil", [flip_a_bit, put_a_pickle, Path.unlink, cut_off])
def test_a_spoiled_model_never_serves(
    system: System, champion: int, fresh: int, spoil: Callable[[Path], object]
) -> None:
    with spoiled(system, fresh, spoil) as folder, alias_at(system, fresh, back_to=champion):
        wait_until(lambda: is_degraded(system))
        assert {system.forecast()[1] for _ in range(8)} == {champion}
        assert set(system.workers().values()) == {champion}
        assert not list(folder.rglob("unpickled"))


def test_a_spoiled_model_is_taken_once_it_is_whole(system: System, champion: int, fresh: int) -> None:
    with spoiled(system, fresh, cut_off):
        system.move_alias(fresh)
        wait_until(lambda: is_degraded(system))
    system.reload()
    wait_until(lambda: system.serves(fresh))


def test_a_worker_that_starts_while_mlflow_is_away_serves_its_last_good_model(
    system: System, champion: int
) -> None:
    expected = system.forecast()
    with web_server(system.environment, VROOM_MLFLOW_URI=f"http://127.0.0.1:{free_port()}") as server:
        assert server.forecast() == expected
        assert server.health()["status"] == "degraded"


# Promise 4: an answer's version is the model that made it.


class Client(threading.Thread):
    """Ask for the same forecast without pause on one connection, and count what was answered."""

    def __init__(self, system: System, stopping: threading.Event) -> None:
        super().__init__()
        self.answers: Counter[tuple[float, int]] = Counter()
        self.failures: list[str] = []
        self._port, self._stopping = system.port, stopping

    def run(self) -> None:
        body = json.dumps(VEHICLE)
        with closing(http.client.HTTPConnection("127.0.0.1", self._port, timeout=30)) as connection:
            while not self._stopping.is_set():
                connection.request("POST", "/predict", body, {"Content-Type": "application/json"})
                response = connection.getresponse()
                document = json.loads(response.read())
                if response.status == 200:
                    self.answers[document["predicted_reservations"], document["model_version"]] += 1
                else:
                    self.failures.append(f"{response.status} {document}")


def test_swaps_under_load_fail_nothing_and_mislabel_nothing(
    system: System, champion: int, challenger: int
) -> None:
    expected = {}
    for version in (challenger, champion):
        system.move_alias(version)
        system.reload()
        wait_until(lambda version=version: system.serves(version))
        expected[version] = system.forecast()[0]
    assert expected[champion] != expected[challenger]
    stopping = threading.Event()
    clients = [Client(system, stopping) for _ in range(NUM_CLIENTS)]
    for client in clients:
        client.start()
    for swap in range(NUM_SWAPS):
        version = (challenger, champion)[swap % 2]
        system.move_alias(version)
        system.reload()
        wait_until(lambda version=version: set(system.workers().values()) == {version})
    stopping.set()
    for client in clients:
        client.join()
    answered = sum((client.answers for client in clients), Counter())
    assert [failure for client in clients for failure in client.failures] == []
    assert set(answered) == {(expected[version], version) for version in (challenger, champion)}
    assert min(answered.values()) > NUM_SWAPS


# Promise 9: no pickle is ever loaded.


def test_a_version_is_native_files_with_their_checksums_in_the_registry(
    system: System, champion: int
) -> None:
    from mlflow.artifacts import download_artifacts  # noqa: PLC0415 - takes seconds to import

    version = system.registry.get_model_version(MODEL_NAME, str(champion))
    folder = Path(download_artifacts(artifact_uri=version.source, tracking_uri=system.mlflow))
    files = [path for path in folder.rglob("*") if path.is_file()]
    assert {path.suffix for path in files} <= {
        ".json",
        ".ubj",
        ".onnx",
        ".yaml",
        ".txt",
        ".md",
        ".html",
        ".png",
        "",
    }
    digests = {hashlib.sha256(path.read_bytes()).hexdigest() for path in files}
    noted = set(version.tags.values()) | set(system.registry.get_run(version.run_id).data.tags.values())
    assert digests & noted  # of the manifest, which carries those of the others
