import mlflow
import pytest

from tests.faults import ALIAS
from tests.vroom_model.champions import AS_OF, FULL, MIDDLING, TAG, WEAK, Champions
from vroom_features.database.engine import promotion_lock
from vroom_model.errors import ReasonError, RegistryError, RollbackError
from vroom_model.manifest import SERVING_NAME
from vroom_model.messages import ModelPromoted
from vroom_model.records import Decision
from vroom_model.registry.promotion import PromotionService


def test_the_first_candidate_becomes_champion_by_beating_the_mean_and_once(champions: Champions) -> None:
    version = champions.register()
    outcome = champions.promote()
    assert outcome.promoted
    assert champions.champion() == version
    assert "the mean" in outcome.decision.reason
    name = champions.registry.model_name
    assert champions.messages == [ModelPromoted(model_name=name, version=version, epoch=1)]
    for force_reason in (None, "again"):
        again = champions.promote(force_reason=force_reason)
        assert not again.promoted
        assert again.decision.reason == f"version {version} is champion already"
    tags = champions.registry.version(version).tags
    assert tags["decision_reason"] == outcome.decision.reason
    assert Decision.model_validate_json(tags["decision"]) == outcome.decision


def test_force_promotes_whatever_the_gate_says_and_the_reason_is_kept(champions: Champions) -> None:
    champions.promote_each(FULL)
    weak = champions.register(WEAK)
    longest = "\a" * 500  # each is six characters of JSON
    decision = champions.promote(force_reason=longest).decision
    assert (decision.promote, decision.forced, champions.champion()) == (True, True, weak)
    assert "is worse for vehicles" in decision.reason
    tags = champions.registry.version(weak).tags
    assert Decision.model_validate_json(tags["decision"]) == decision
    head, _ = champions.service.history()
    assert (head.forced, head.reason) == (True, decision.reason)
    assert longest in tags["decision_reason"]


def test_a_blank_or_too_long_reason_is_refused(champions: Champions) -> None:
    for reason, problem in (("  \n", "needs a written reason"), ("x" * 501, "501 characters; say it in 500")):
        with pytest.raises(ReasonError, match=problem):
            champions.promote(force_reason=reason)
    with pytest.raises(ReasonError):
        champions.rollback("x" * 501)
    assert champions.service.history() == []


def test_better_candidates_take_over_and_rollbacks_go_back_one_at_a_time(champions: Champions) -> None:
    first, second, third = champions.promote_each(WEAK, MIDDLING, FULL)
    assert not champions.promote(second).promoted  # it is worse
    assert [message.version for message in champions.messages] == [first, second, third]
    for expected, before in ((second, third), (first, second)):
        decision = champions.rollback().decision
        assert champions.champion() == decision.candidate_version == expected
        assert decision.reason == f"version {expected} is champion again, instead of {before}: a drill"
        assert champions.registry.version(expected).tags["decision_reason"] == decision.reason
    with pytest.raises(RollbackError, match="no earlier champion"):
        champions.rollback()
    assert [message.epoch for message in champions.messages] == [1, 2, 3, 4, 5]
    assert champions.promote(second).promoted  # a rollback returns to what served before
    champions.rollback()
    assert champions.champion() == first


def test_damaged_copies_of_models_on_disk_are_downloaded_again_to_promote_and_to_roll_back(
    champions: Champions,
) -> None:
    def damage() -> None:
        for graph in champions.folder.glob(f"cache/*/{SERVING_NAME}"):
            graph.write_bytes(b"damaged")

    first, _ = champions.promote_each(WEAK, FULL)
    middling = champions.register(MIDDLING)
    damage()
    refused = champions.promote(middling).decision
    assert not refused.promote
    assert refused.champion_mae is not None  # it was compared
    damage()
    champions.rollback()
    assert champions.champion() == first


@pytest.mark.parametrize(
    ("step", "is_done"),
    [(TAG, False), (ALIAS, False), (ALIAS, True)],
    ids=["after the record", "before the alias", "after the alias"],
)
def test_a_promotion_that_is_cut_off_is_finished_and_its_retry_is_the_same_promotion(
    champions: Champions, step: str, is_done: bool
) -> None:
    version = champions.register(WEAK)
    as_of = champions.moment()
    with (
        champions.interrupted(step, is_done=is_done) as service,
        pytest.raises(RegistryError, match="need not be repeated"),
    ):
        service.promote(champions.fleet, as_of=as_of)
    (cut_off,) = champions.service.history()
    assert (cut_off.version, cut_off.is_closed) == (version, False)
    with promotion_lock(champions.source.engine, champions.source.address):
        champions.service.finish()  # its process may live
        assert not champions.service.history()[0].is_closed
    for _ in range(2):  # the first reader finishes it, and the second does nothing more
        champions.service.finish()
        assert champions.champion() == version
    assert [(message.version, message.epoch) for message in champions.messages] == [(version, cut_off.number)]
    (finished,) = champions.service.history()
    assert (finished.number, finished.is_closed) == (cut_off.number, True)
    assert Decision.model_validate_json(champions.registry.version(version).tags["decision"]).promote
    (other,) = champions.promote_each(MIDDLING)  # comes in between
    again = champions.service.promote(champions.fleet, as_of=as_of, version=version)
    assert (again.record, again.promoted, len(champions.service.history())) == (1, True, 2)
    assert champions.champion() == other


def test_a_message_that_cannot_be_sent_leaves_the_promotion_done(champions: Champions) -> None:
    version = champions.register()

    def fail(_message: ModelPromoted) -> None:
        raise ConnectionError

    service = PromotionService(champions.registry, champions.source, publish=fail)
    with pytest.raises(ConnectionError):
        service.promote(champions.fleet, as_of=AS_OF)
    assert champions.service.history()[0].is_closed
    outcome = champions.service.promote(champions.fleet, as_of=AS_OF)
    assert (outcome.record, champions.champion()) == (1, version)
    assert "the mean" in outcome.decision.reason


def test_a_rollback_repeated_after_a_failure_goes_back_no_further(champions: Champions) -> None:
    first, second, _ = champions.promote_each(WEAK, MIDDLING, FULL)
    with champions.interrupted() as service:
        for _ in range(2):
            with pytest.raises(RegistryError, match=rf"version {second} .* need not be repeated"):
                service.rollback(as_of=champions.moment())
    outcome = champions.rollback()
    assert (outcome.record, outcome.decision.candidate_version) == (4, second)
    assert champions.champion() == second
    assert len(champions.service.history()) == 4
    champions.rollback()
    assert champions.champion() == first


def test_a_version_that_got_the_champions_number_after_the_registry_was_lost_is_not_the_champion(
    champions: Champions,
) -> None:
    (lost,) = champions.promote_each(FULL)
    mlflow.MlflowClient(champions.registry.address.url).delete_registered_model(champions.registry.model_name)
    assert champions.register(WEAK) == lost
    assert champions.registry.champion() is None
    outcome = champions.promote()
    assert (outcome.promoted, outcome.record, champions.champion()) == (True, 2, lost)
    assert "the mean" in outcome.decision.reason
    with pytest.raises(RollbackError, match="is gone"):
        champions.rollback()


def test_a_champion_moved_by_hand_is_respected_recorded_and_where_a_rollback_leads(
    champions: Champions,
) -> None:
    first = champions.register(WEAK)
    champions.registry.set_alias("champion", first)  # before there was any promotion
    (second,) = champions.promote_each(MIDDLING)
    by_hand = champions.register()
    champions.registry.set_alias("champion", by_hand)
    refused = champions.promote(second)
    assert (refused.promoted, refused.decision.champion_version) == (False, by_hand)
    kinds = [(record.version, record.kind) for record in champions.service.history()]
    assert kinds == [(by_hand, "manual"), (second, "promotion"), (first, "manual")]
    for expected in (second, first):
        champions.rollback()
        assert champions.champion() == expected


def test_a_change_that_was_cut_off_is_abandoned_when_the_alias_was_moved_by_hand_or_its_version_is_gone(
    champions: Champions,
) -> None:
    (first,) = champions.promote_each(WEAK)
    champions.open_record(champions.register(MIDDLING))
    by_hand = champions.register()
    champions.registry.set_alias("champion", by_hand)
    assert champions.promote().decision.reason == f"version {by_hand} is champion already"
    champions.rollback()
    assert champions.champion() == first
    champions.open_record(by_hand)
    champions.registry.delete(champions.registry.version(by_hand))
    champions.service.finish()
    assert champions.champion() == first
    history = champions.service.history()
    expected = ["abandoned", "rollback", "manual", "abandoned", "promotion"]
    assert [record.kind for record in history] == expected
    assert all(record.is_closed for record in history)
