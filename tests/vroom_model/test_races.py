"""Promotions in real processes: at the same time, on both databases, and cut off by SIGKILL."""

import signal
from collections.abc import Iterator
from pathlib import Path

import pytest
import redis as redis_py

from tests.snapshots import FrameSnapshot
from tests.vroom_model.champions import Champions
from tests.vroom_model.killing import TIMEOUT_S, KillingProxy, go, start
from tests.vroom_model.promoter import Task
from vroom_features.stores.source import SourceStore
from vroom_model.boosting import TrainingParams
from vroom_model.ledger import Ledger
from vroom_model.messages import ModelPromoted
from vroom_model.records import Decision
from vroom_model.registry import Registry
from vroom_model.succession import Outcome
from vroom_model.training import TrainedModel, train

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
    return Champions(registry, Ledger(source.engine, registry.model_name), tmp_path)


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
def test_two_rollbacks_at_once_each_tell_what_they_did(
    champions: Champions, fleet: FrameSnapshot, task: Task, models: list[TrainedModel]
) -> None:
    versions = []
    for model in models:
        versions.append(champions.register_trained(model).version.version)
        assert champions.promote(fleet).promoted
    back = task.model_copy(update={"rollback": True})
    outcomes = [Outcome.model_validate_json(text) for text in go(start(back), start(back))]
    # The later one goes back further, unless it found the earlier one unfinished: then it was that one.
    served = {4: versions[1], 5: versions[0]}
    told = {outcome.epoch: outcome.decision.candidate_version for outcome in outcomes}
    assert told.items() <= served.items()
    assert {entry.epoch for entry in champions.ledger.entries()} == {1, 2, 3, *told}
    assert champions.champion() == served[max(told)]  # type: ignore[type-var]  # both have an epoch


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
