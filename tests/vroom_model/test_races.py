"""Promotions in real processes: at the same time, on both databases, and cut off by SIGKILL."""

import signal
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
import redis as redis_py

from tests.snapshots import FrameSnapshot
from tests.vroom_model.champions import Champions
from tests.vroom_model.killing import ALIAS, TAG, TIMEOUT_S, SteppingProxy, go, start
from tests.vroom_model.promoter import Task
from tests.webapp.waiting import wait_until
from vroom_features.database.vehicles import SourceStore
from vroom_features.errors import SourceStoreError
from vroom_model.messages import ModelPromoted
from vroom_model.records import Decision, Outcome
from vroom_model.registry.registry import Registry
from vroom_model.training.boosting import TrainingParams
from vroom_model.training.train import TrainedModel, train

WEAK, MIDDLING = TrainingParams(num_rounds=2), TrainingParams(num_rounds=8)


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
    return Champions(registry, source, tmp_path)


@pytest.fixture(scope="module")
def weak(fleet: FrameSnapshot, tmp_path_factory: pytest.TempPathFactory) -> TrainedModel:
    """Return a model that each of the others betters."""
    return train(fleet, directory=tmp_path_factory.mktemp("weak"), as_of=fleet.created_at, params=WEAK)


@pytest.fixture(scope="module")
def models(
    fleet: FrameSnapshot, weak: TrainedModel, trained: TrainedModel, tmp_path_factory: pytest.TempPathFactory
) -> list[TrainedModel]:
    """Return three models, each better than the one before."""
    folder = tmp_path_factory.mktemp("middling")
    return [weak, train(fleet, directory=folder, as_of=fleet.created_at, params=MIDDLING), trained]


@pytest.fixture
def task(champions: Champions, source: SourceStore, redis_url: str) -> Task:
    """Return the promotion of the candidate."""
    return Task(
        mlflow=champions.registry.address.url,
        model_name=champions.registry.model_name,
        database=source.address.url,
        redis=redis_url,
        as_of=champions.moment(),
    )


@pytest.mark.parametrize("source", ["sqlite", "postgresql"], indirect=True)
def test_two_promotions_at_once_leave_one_champion_and_two_true_records(
    champions: Champions, fleet: FrameSnapshot, task: Task, models: list[TrainedModel]
) -> None:
    before = champions.register_trained(models[0]).version.version
    champions.promote(fleet)
    rivals = [champions.register_trained(model).version.version for model in models[1:]]
    processes = [start(task.model_copy(update={"version": version})) for version in rivals]
    printed = go(*processes)
    outcomes = {
        version: Outcome.model_validate_json(text) for version, text in zip(rivals, printed, strict=True)
    }

    # Whoever came first, the better one is champion: alone, or after the other.
    assert champions.champion() == rivals[1]
    history = champions.service.history()
    assert [record.number for record in history] == list(range(len(history), 0, -1))
    assert all(record.is_closed for record in history)
    served = {record.number: record.version for record in history}
    assert served[1] == before
    promoted = {outcome.record: version for version, outcome in outcomes.items() if outcome.promoted}
    assert promoted == {number: version for number, version in served.items() if number > 1}
    for version, outcome in outcomes.items():
        tags = champions.registry.version(version).tags
        assert Decision.model_validate_json(tags["decision"]) == outcome.decision
        rival = outcome.decision.champion_version
        assert rival == (served[outcome.record - 1] if outcome.record else rivals[1])


@pytest.mark.parametrize("source", ["postgresql"], indirect=True)
def test_two_rollbacks_at_once_each_tell_what_they_did(
    champions: Champions, fleet: FrameSnapshot, task: Task, models: list[TrainedModel]
) -> None:
    versions = []
    for model in models:
        versions.append(champions.register_trained(model).version.version)
        assert champions.promote(fleet).promoted
    backs = [
        task.model_copy(update={"rollback": True, "as_of": champions.moment(), "version": None})
        for _ in range(2)
    ]
    outcomes = [Outcome.model_validate_json(text) for text in go(*map(start, backs))]
    told = {outcome.record: outcome.decision.candidate_version for outcome in outcomes}
    assert told == {4: versions[1], 5: versions[0]}
    assert len(champions.service.history()) == 5
    assert champions.champion() == versions[0]


def killed(task: Task, champions: Champions, *, step: str, is_done: bool) -> None:
    """Run a promotion or rollback in a process that dies by SIGKILL as it asks MLflow for a step."""
    proxy = SteppingProxy(champions.registry.address.url, step=step, is_done=is_done)
    try:
        proxy.victim = start(task.model_copy(update={"mlflow": proxy.url}))
        go(proxy.victim)
    finally:
        proxy.close()
    assert proxy.victim.returncode == -signal.SIGKILL


def assert_finished(champions: Champions, version: int, redis: redis_py.Redis) -> None:
    """Check that one reader finishes the change that was cut off, and a second one does nothing more."""
    cut_off, *_ = champions.service.history()
    assert (cut_off.version, cut_off.is_closed) == (version, False)
    with redis.pubsub() as heard:  # type: ignore[no-untyped-call]  # of redis-py
        heard.subscribe(ModelPromoted.channel)
        assert heard.get_message(timeout=TIMEOUT_S)["type"] == "subscribe"
        for _ in range(2):
            champions.with_publish(lambda m: redis.publish(m.channel, m.encode())).finish()
            assert champions.champion() == version
        message = ModelPromoted.decode(heard.get_message(timeout=TIMEOUT_S)["data"])
        assert (message.version, message.epoch) == (version, cut_off.number)
        assert heard.get_message(timeout=0.1) is None
    finished, *_ = champions.service.history()
    assert (finished.number, finished.is_closed) == (cut_off.number, True)
    tags = champions.registry.version(version).tags
    decision = Decision.model_validate_json(tags["decision"])
    assert decision.promote
    assert tags["decision_reason"] == decision.reason


STEPS = pytest.mark.parametrize(
    ("step", "is_done"),
    [(TAG, False), (ALIAS, False), (ALIAS, True)],
    ids=["after the intent", "before the alias", "after the alias"],
)


@STEPS
def test_a_promotion_that_is_killed_is_finished_and_its_retry_is_the_same_promotion(
    champions: Champions,
    fleet: FrameSnapshot,
    task: Task,
    weak: TrainedModel,
    redis: redis_py.Redis,
    step: str,
    is_done: bool,
) -> None:
    version = champions.register_trained(weak).version.version
    killed(task, champions, step=step, is_done=is_done)
    assert_finished(champions, version, redis)
    again = champions.service.promote(fleet, as_of=task.as_of)
    assert (again.record, again.promoted, len(champions.service.history())) == (1, True, 1)


@STEPS
def test_a_rollback_that_is_killed_and_repeated_is_finished_and_goes_back_no_further(
    champions: Champions,
    fleet: FrameSnapshot,
    task: Task,
    models: list[TrainedModel],
    step: str,
    is_done: bool,
) -> None:
    versions = [champions.register_trained(model).version.version for model in models]
    for version in versions:
        champions.promote(fleet, version)
    rollback = task.model_copy(update={"rollback": True, "as_of": champions.moment()})
    killed(rollback, champions, step=step, is_done=is_done)
    outcome = champions.service.rollback(as_of=champions.moment())
    assert (outcome.record, outcome.decision.candidate_version) == (4, versions[1])
    assert champions.champion() == versions[1]
    assert [record.is_closed for record in champions.service.history()] == [True] * 4


@pytest.mark.parametrize("moment", ["before the message", "after the message"])
def test_a_promotion_that_is_killed_at_its_message_is_done(
    champions: Champions, fleet: FrameSnapshot, task: Task, weak: TrainedModel, moment: str
) -> None:
    version = champions.register_trained(weak).version.version
    process = start(task.model_copy(update={"die": moment}))
    go(process)
    assert process.returncode == -signal.SIGKILL
    assert champions.champion() == version
    (record,) = champions.service.history()
    assert record.is_closed
    assert champions.service.promote(fleet, as_of=task.as_of).record == record.number


@pytest.mark.parametrize("source", ["postgresql"], indirect=True)
def test_an_alias_moved_late_by_a_process_that_lost_the_lock_does_not_stay(
    champions: Champions, fleet: FrameSnapshot, source: SourceStore, models: list[TrainedModel]
) -> None:
    first, late, better = (champions.register_trained(model).version.version for model in models)
    champions.promote(fleet, first)
    proxy = SteppingProxy(champions.registry.address.url)

    def overtake() -> None:
        """Take the lock away from whoever holds it, and promote another while it waits for MLflow."""
        if champions.champion() != first:
            return
        with source.engine.begin() as connection:
            held = "SELECT pg_terminate_backend(pid) FROM pg_locks WHERE locktype = 'advisory'"
            assert connection.exec_driver_sql(held).scalars().all() == [True]
        assert champions.promote(fleet, better).promoted

    proxy.meanwhile = overtake
    try:
        assert champions.through(proxy.url).promote(fleet, as_of=champions.moment(), version=late).promoted
    finally:
        proxy.close()
    assert champions.champion() == better
    history = [(record.version, record.kind, record.is_closed) for record in champions.service.history()]
    assert history == [(version, "promotion", True) for version in (better, late, first)]


@pytest.mark.parametrize("source", ["postgresql"], indirect=True)
def test_a_record_whose_number_was_taken_since_the_lock_was_lost_is_refused(
    champions: Champions, fleet: FrameSnapshot, source: SourceStore, models: list[TrainedModel]
) -> None:
    first, second = (champions.register_trained(model).version.version for model in models[:2])
    champions.promote(fleet, first)
    waiting = "SELECT 1 FROM pg_locks WHERE relation = 'handovers'::regclass AND NOT granted"
    taken = (
        "INSERT INTO handovers (model_name, epoch, version, kind, reason, forced, decided_at, settled)"
        " SELECT model_name, epoch + 1, version, kind, reason, forced, decided_at, settled FROM handovers"
    )
    with ThreadPoolExecutor(1) as pool, source.engine.begin() as connection:
        connection.exec_driver_sql("LOCK TABLE handovers IN SHARE ROW EXCLUSIVE MODE")  # it may read
        promotion = pool.submit(champions.promote, fleet, second)
        wait_until(lambda: connection.exec_driver_sql(waiting).first(), timeout_s=TIMEOUT_S)
        connection.exec_driver_sql(taken)
    with pytest.raises(SourceStoreError, match="duplicate key"):
        promotion.result()
    assert champions.champion() == first
