import mlflow
import pytest

from tests.snapshots import FrameSnapshot
from tests.vroom_model.champions import AS_OF, Champions
from tests.vroom_model.killing import SteppingProxy
from vroom_features.database.engine import promotion_lock
from vroom_model.errors import ReasonError, RegistryError, RollbackError
from vroom_model.messages import ModelPromoted
from vroom_model.training.boosting import TrainingParams
from vroom_model.training.train import TrainedModel

WEAK = TrainingParams(num_rounds=2)
MIDDLING = TrainingParams(num_rounds=8)


def test_the_first_candidate_becomes_champion_by_beating_the_median(
    champions: Champions, fleet: FrameSnapshot
) -> None:
    version = champions.register(fleet)
    outcome = champions.promote(fleet)
    assert outcome.promoted
    assert champions.champion() == version
    assert "the median" in outcome.decision.reason
    assert champions.messages == [
        ModelPromoted(model_name=champions.registry.model_name, version=version, epoch=1)
    ]


def test_a_better_candidate_takes_over_and_a_worse_one_does_not(
    champions: Champions, fleet: FrameSnapshot
) -> None:
    weak = champions.register(fleet, params=WEAK)
    champions.promote(fleet)
    better = champions.register(fleet)
    assert champions.promote(fleet).promoted
    assert champions.champion() == better
    refused = champions.promote(fleet, version=weak)
    assert not refused.promoted
    assert champions.champion() == better
    assert [message.version for message in champions.messages] == [weak, better]


def test_the_decision_is_kept_on_the_version(champions: Champions, fleet: FrameSnapshot) -> None:
    version = champions.register(fleet)
    outcome = champions.promote(fleet)
    tags = champions.registry.version(version).tags
    assert tags["decision_reason"] == outcome.decision.reason
    assert type(outcome.decision).model_validate_json(tags["decision"]) == outcome.decision


def test_the_champion_is_not_promoted_again(champions: Champions, fleet: FrameSnapshot) -> None:
    version = champions.register(fleet)
    champions.promote(fleet)
    why = champions.registry.version(version).tags["decision_reason"]
    for force_reason in (None, "again"):
        again = champions.promote(fleet, force_reason=force_reason)
        assert not again.promoted
        assert again.decision.reason == f"version {version} is champion already"
    assert champions.registry.version(version).tags["decision_reason"] == why


def test_force_promotes_a_worse_version_and_writes_the_reason_down(
    champions: Champions, fleet: FrameSnapshot
) -> None:
    champions.register(fleet)
    champions.promote(fleet)
    weak = champions.register(fleet, params=WEAK)
    outcome = champions.promote(fleet, version=weak, force_reason="a drill")
    assert champions.champion() == weak
    assert outcome.decision.forced
    head, _ = champions.service.history()
    assert head.forced
    assert "a drill" in head.reason


def test_force_keeps_its_reason_though_the_gate_would_have_let_it_pass(
    champions: Champions, fleet: FrameSnapshot
) -> None:
    version = champions.register(fleet)
    decision = champions.promote(fleet, force_reason="the fair begins tomorrow").decision
    assert decision.promote
    assert decision.forced
    assert "the fair begins tomorrow" in champions.registry.version(version).tags["decision_reason"]
    assert "the median" in decision.reason


@pytest.mark.parametrize("reason", ["", "  \n"])
def test_force_without_a_written_reason_is_refused(
    champions: Champions, fleet: FrameSnapshot, trained: TrainedModel, reason: str
) -> None:
    champions.register_trained(trained)
    with pytest.raises(ReasonError, match="needs a written reason"):
        champions.promote(fleet, force_reason=reason)
    assert champions.registry.champion() is None
    assert champions.service.history() == []


def test_the_decision_stays_whole_with_the_longest_reason_and_a_longer_one_is_refused(
    champions: Champions, fleet: FrameSnapshot, trained: TrainedModel
) -> None:
    version = champions.register_trained(trained).version.version
    with pytest.raises(ReasonError, match="501 characters; say it in 500"):
        champions.promote(fleet, force_reason="x" * 501)
    with pytest.raises(ReasonError):
        champions.service.rollback(as_of=AS_OF, reason="x" * 501)
    decision = champions.promote(fleet, force_reason="\a" * 500).decision  # each is six characters of JSON
    kept = champions.registry.version(version).tags["decision"]
    assert type(decision).model_validate_json(kept) == decision


def test_rollback_goes_back_one_champion_at_a_time(champions: Champions, fleet: FrameSnapshot) -> None:
    versions = []
    for params in (WEAK, MIDDLING, TrainingParams()):
        versions.append(champions.register(fleet, params=params))
        assert champions.promote(fleet).promoted
    seen = []
    for _ in range(2):
        decision = champions.service.rollback(as_of=champions.moment(), reason="a drill").decision
        seen.append(decision.candidate_version)
        assert champions.champion() == seen[-1]
        assert decision.reason == (
            f"version {seen[-1]} is champion again, instead of {decision.champion_version}: a drill"
        )
        assert champions.registry.version(seen[-1]).tags["decision_reason"] == decision.reason
    assert seen == [versions[1], versions[0]]
    with pytest.raises(RollbackError, match="no earlier champion"):
        champions.service.rollback(as_of=AS_OF)
    assert [message.epoch for message in champions.messages] == [1, 2, 3, 4, 5]


def test_rollback_after_a_promotion_after_a_rollback_returns_to_what_served(
    champions: Champions, fleet: FrameSnapshot
) -> None:
    first = champions.register(fleet, params=WEAK)
    champions.promote(fleet)
    second = champions.register(fleet, params=MIDDLING)
    champions.promote(fleet)
    champions.service.rollback(as_of=champions.moment())
    champions.promote(fleet, version=second)
    champions.service.rollback(as_of=champions.moment())
    assert champions.champion() == first


def test_a_promotion_repeated_after_a_failure_is_the_promotion_it_was(
    champions: Champions, fleet: FrameSnapshot
) -> None:
    version = champions.register(fleet)
    cut_off = champions.open_record(fleet, version)
    better = champions.register(fleet, seed=1)
    assert champions.promote(fleet, force_reason="another comes in between").record == 2
    for _ in range(2):
        outcome = champions.service.promote(fleet, as_of=cut_off.decided_at, version=version)
        assert (outcome.promoted, outcome.record) == (True, 1)
        assert "a test" in outcome.decision.reason
    assert champions.champion() == better
    assert len(champions.service.history()) == 2


def test_a_message_that_cannot_be_sent_leaves_the_promotion_done(
    champions: Champions, fleet: FrameSnapshot
) -> None:
    version = champions.register(fleet)

    def fail(_message: ModelPromoted) -> None:
        raise ConnectionError

    with pytest.raises(ConnectionError):
        champions.with_publish(fail).promote(fleet, as_of=AS_OF)
    outcome = champions.service.promote(fleet, as_of=AS_OF)
    assert (outcome.record, champions.champion()) == (1, version)
    assert "the median" in outcome.decision.reason


def test_a_rollback_repeated_after_a_failure_goes_back_no_further(
    champions: Champions, fleet: FrameSnapshot
) -> None:
    versions = []
    for params in (WEAK, MIDDLING, TrainingParams()):
        versions.append(champions.register(fleet, params=params))
        champions.promote(fleet)
    refusing = SteppingProxy(champions.registry.address.url)
    away = champions.through(refusing.url)
    try:
        for _ in range(2):
            with pytest.raises(RegistryError, match=rf"version {versions[1]} .* need not be repeated"):
                away.rollback(as_of=champions.moment())
    finally:
        refusing.close()
    outcome = champions.service.rollback(as_of=champions.moment())
    assert (outcome.record, outcome.decision.candidate_version) == (4, versions[1])
    assert champions.champion() == versions[1]
    assert len(champions.service.history()) == 4
    champions.service.rollback(as_of=champions.moment())
    assert champions.champion() == versions[0]


def test_a_version_that_got_the_champions_number_after_the_registry_was_lost_is_not_the_champion(
    champions: Champions, fleet: FrameSnapshot
) -> None:
    lost = champions.register(fleet)
    champions.promote(fleet)
    mlflow.MlflowClient(champions.registry.address.url).delete_registered_model(champions.registry.model_name)
    assert champions.register(fleet, params=WEAK) == lost
    assert champions.registry.champion() is None
    outcome = champions.promote(fleet)
    assert (outcome.promoted, outcome.record, champions.champion()) == (True, 2, lost)
    assert "the median" in outcome.decision.reason
    with pytest.raises(RollbackError, match="is gone"):
        champions.service.rollback(as_of=champions.moment())


def test_a_missing_champion_is_replaced_by_one_that_is_worse_than_it_was(
    champions: Champions, fleet: FrameSnapshot
) -> None:
    champions.register(fleet)
    champions.promote(fleet)
    client = mlflow.MlflowClient(champions.registry.address.url)
    client.delete_registered_model_alias(champions.registry.model_name, "champion")
    weak = champions.register(fleet, params=WEAK)
    assert champions.promote(fleet).promoted
    assert champions.champion() == weak


def test_a_champion_moved_by_hand_is_respected_recorded_and_where_a_rollback_leads(
    champions: Champions, fleet: FrameSnapshot
) -> None:
    first = champions.register(fleet, params=WEAK)
    champions.registry.set_alias("champion", first)  # before there was any promotion
    second = champions.register(fleet, params=MIDDLING)
    assert champions.promote(fleet).promoted
    by_hand = champions.register(fleet)
    champions.registry.set_alias("champion", by_hand)
    refused = champions.promote(fleet, second)
    assert (refused.promoted, refused.decision.champion_version) == (False, by_hand)
    kinds = [(record.version, record.kind) for record in champions.service.history()]
    assert kinds == [(by_hand, "manual"), (second, "promotion"), (first, "manual")]
    for expected in (second, first):
        champions.service.rollback(as_of=champions.moment())
        assert champions.champion() == expected


def test_whoever_reads_next_finishes_what_was_cut_off_before_the_alias(
    champions: Champions, fleet: FrameSnapshot
) -> None:
    champions.register(fleet, params=WEAK)
    champions.promote(fleet)
    version = champions.register(fleet)
    cut_off = champions.open_record(fleet, version)
    with promotion_lock(champions.source.engine, champions.source.address):
        champions.service.finish()  # its process may live
        assert champions.champion() != version
    for _ in range(2):
        champions.service.finish()
        assert champions.champion() == version
    assert champions.service.history()[0].is_closed
    assert [message.epoch for message in champions.messages] == [1, cut_off.number]


@pytest.mark.parametrize("is_promotion", [True, False])
def test_a_change_that_was_cut_off_is_abandoned_when_the_alias_was_moved_by_hand_meanwhile(
    champions: Champions, fleet: FrameSnapshot, is_promotion: bool
) -> None:
    first = champions.register(fleet, params=WEAK)
    champions.promote(fleet)
    champions.open_record(fleet, champions.register(fleet, params=MIDDLING))
    by_hand = champions.register(fleet)
    champions.registry.set_alias("champion", by_hand)
    if is_promotion:
        assert champions.promote(fleet).decision.reason == f"version {by_hand} is champion already"
        assert [record.kind for record in champions.service.history()] == ["manual", "abandoned", "promotion"]
        assert champions.champion() == by_hand
    else:
        champions.service.rollback(as_of=champions.moment())
        assert champions.champion() == first
    assert all(record.is_closed for record in champions.service.history())


def test_a_change_that_was_cut_off_is_abandoned_when_its_version_is_gone(
    champions: Champions, fleet: FrameSnapshot
) -> None:
    first = champions.register(fleet, params=WEAK)
    champions.promote(fleet)
    version = champions.register(fleet)
    champions.open_record(fleet, version)
    champions.registry.delete(champions.registry.version(version))
    champions.service.finish()
    assert champions.service.history()[0].kind == "abandoned"
    assert champions.champion() == first
