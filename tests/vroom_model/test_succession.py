import mlflow
import pytest

from tests.snapshots import FrameSnapshot
from tests.vroom_model.champions import AS_OF, Champions
from vroom_model.boosting import TrainingParams
from vroom_model.errors import (
    ForceReasonError,
    LongReasonError,
    RegistryError,
    RollbackError,
    UnsettledError,
)
from vroom_model.messages import ModelPromoted
from vroom_model.settlement import Settlement
from vroom_model.training import TrainedModel

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
    assert tags["epoch"] == "1"


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
    head = champions.ledger.head()
    assert head is not None
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
    with pytest.raises(ForceReasonError, match="needs a written reason"):
        champions.promote(fleet, force_reason=reason)
    assert champions.registry.champion() is None
    assert champions.ledger.head() is None


def test_the_decision_stays_whole_with_the_longest_reason_and_a_longer_one_is_refused(
    champions: Champions, fleet: FrameSnapshot, trained: TrainedModel
) -> None:
    version = champions.register_trained(trained).version.version
    with pytest.raises(LongReasonError, match="501 characters; say it in 500"):
        champions.promote(fleet, force_reason="x" * 501)
    with pytest.raises(LongReasonError):
        champions.succession.rollback(as_of=AS_OF, reason="x" * 501)
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
        decision = champions.succession.rollback(as_of=champions.moment(), reason="a drill").decision
        seen.append(decision.candidate_version)
        assert champions.champion() == seen[-1]
        assert decision.reason == (
            f"version {seen[-1]} is champion again, instead of {decision.champion_version}: a drill"
        )
        assert champions.registry.version(seen[-1]).tags["decision_reason"] == decision.reason
    assert seen == [versions[1], versions[0]]
    with pytest.raises(RollbackError, match="no earlier champion"):
        champions.succession.rollback(as_of=AS_OF)
    assert [message.epoch for message in champions.messages] == [1, 2, 3, 4, 5]


def test_rollback_after_a_promotion_after_a_rollback_returns_to_what_served(
    champions: Champions, fleet: FrameSnapshot
) -> None:
    first = champions.register(fleet, params=WEAK)
    champions.promote(fleet)
    second = champions.register(fleet, params=MIDDLING)
    champions.promote(fleet)
    champions.succession.rollback(as_of=AS_OF)
    champions.promote(fleet, version=second)
    champions.succession.rollback(as_of=AS_OF)
    assert champions.champion() == first


def test_a_promotion_repeated_after_a_failure_is_told_as_the_promotion_it_was(
    champions: Champions, fleet: FrameSnapshot
) -> None:
    version = champions.register(fleet)

    def fail(_message: ModelPromoted) -> None:
        raise RegistryError("away for a moment")

    with pytest.raises(UnsettledError, match=r"epoch 1.*need not be repeated.*away for a moment"):
        champions.with_publish(fail).promote(fleet, as_of=AS_OF)
    outcome = champions.succession.promote(fleet, as_of=AS_OF)
    assert (outcome.promoted, outcome.epoch, champions.champion()) == (True, 1, version)
    assert "the median" in outcome.decision.reason
    assert len(champions.ledger.entries()) == 1


def test_a_rollback_repeated_after_a_failure_goes_back_no_further(
    champions: Champions, fleet: FrameSnapshot
) -> None:
    versions = []
    for params in (WEAK, MIDDLING, TrainingParams()):
        versions.append(champions.register(fleet, params=params))
        champions.promote(fleet)

    def fail(_message: ModelPromoted) -> None:
        raise RegistryError("away for a moment")

    for _ in range(2):
        with pytest.raises(UnsettledError, match=rf"version {versions[1]} .*epoch 4.*need not be repeated"):
            champions.with_publish(fail).rollback(as_of=champions.moment())
    outcome = champions.succession.rollback(as_of=champions.moment())
    assert (outcome.epoch, outcome.decision.candidate_version) == (4, versions[1])
    assert champions.champion() == versions[1]
    assert len(champions.ledger.entries()) == 4
    champions.succession.rollback(as_of=champions.moment())
    assert champions.champion() == versions[0]


def test_an_alias_set_late_by_a_stalled_process_does_not_stay(
    champions: Champions, fleet: FrameSnapshot
) -> None:
    old = champions.register(fleet, params=WEAK)
    new = champions.register(fleet)

    def overtake(message: ModelPromoted) -> None:
        """While epoch 1 is being announced, another process takes epoch 2 and dies before its alias."""
        if message.epoch == 1:
            champions.ledger.append(
                after=champions.ledger.head(),
                version=new,
                kind="promotion",
                reason="",
                decided_at=AS_OF,
                back_to=1,
            )

    champions.with_publish(overtake).promote(fleet, as_of=AS_OF, version=old)
    assert champions.champion() == new


def test_a_version_that_got_the_champions_number_after_the_registry_was_lost_is_not_the_champion(
    champions: Champions, fleet: FrameSnapshot
) -> None:
    lost = champions.register(fleet)
    champions.promote(fleet)
    mlflow.MlflowClient(champions.registry.address.url).delete_registered_model(champions.registry.model_name)
    assert champions.register(fleet, params=WEAK) == lost
    assert champions.succession.champion() is None
    assert "decision" not in champions.registry.version(lost).tags
    outcome = champions.promote(fleet)
    assert (outcome.promoted, outcome.epoch, champions.champion()) == (True, 2, lost)
    assert "the median" in outcome.decision.reason
    with pytest.raises(RollbackError, match="is gone"):
        champions.succession.rollback(as_of=champions.moment())


def test_a_champion_from_before_the_ledger_is_adopted(champions: Champions, fleet: FrameSnapshot) -> None:
    version = champions.register(fleet, params=WEAK)
    champions.registry.set_alias("champion", version)
    champions.register(fleet)
    assert champions.promote(fleet).promoted
    champions.succession.rollback(as_of=AS_OF)
    assert champions.champion() == version


def test_a_reader_finishes_what_it_saw_unfinished_twice_and_leaves_the_rest_alone(
    champions: Champions, fleet: FrameSnapshot
) -> None:
    old = champions.register(fleet, params=WEAK)
    champions.promote(fleet)
    new = champions.register(fleet)
    reader = Settlement(champions.registry, champions.ledger, publish=champions.messages.append)
    champions.registry.set_alias("champion", new)  # by hand
    for _ in range(2):
        reader.finish(patience_s=0)
    assert champions.champion() == new

    champions.registry.set_alias("champion", old)
    head = champions.ledger.head()
    entry = champions.ledger.append(
        after=head, version=new, kind="promotion", reason="it is better", decided_at=AS_OF, back_to=1
    )
    assert entry is not None
    patient = Settlement(champions.registry, champions.ledger, publish=champions.messages.append)
    for _ in range(3):
        patient.finish()  # its process may live
    reader.finish(patience_s=0)
    assert champions.champion() == old
    reader.finish(patience_s=0)
    assert champions.champion() == new
    assert champions.ledger.entry(entry.epoch).settled
    reader.finish(patience_s=0)
    assert [message.epoch for message in champions.messages] == [1, entry.epoch]
