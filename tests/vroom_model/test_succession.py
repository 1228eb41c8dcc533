from threading import Barrier, Thread

import pytest

from tests.snapshots import FrameSnapshot
from tests.vroom_model.champions import AS_OF, Champions
from vroom_model.boosting import TrainingParams
from vroom_model.errors import RollbackError
from vroom_model.messages import ModelPromoted
from vroom_model.succession import Outcome

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
    again = champions.promote(fleet)
    assert not again.promoted
    assert again.decision.reason == f"version {version} is champion already"


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


def test_rollback_goes_back_one_champion_at_a_time(champions: Champions, fleet: FrameSnapshot) -> None:
    versions = []
    for params in (WEAK, MIDDLING, TrainingParams()):
        versions.append(champions.register(fleet, params=params))
        assert champions.promote(fleet).promoted
    seen = []
    for _ in range(2):
        seen.append(champions.succession.rollback(as_of=AS_OF).decision.candidate_version)
        assert champions.champion() == seen[-1]
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


class Crash(BaseException):
    """The process is killed here."""


def test_a_crash_before_the_message_is_repaired_by_the_next_look(
    champions: Champions, fleet: FrameSnapshot
) -> None:
    def die(_message: ModelPromoted) -> None:
        raise Crash

    version = champions.register(fleet)
    with pytest.raises(Crash):
        champions.with_publish(die).promote(fleet, as_of=AS_OF)
    champion = champions.succession.champion()
    assert champion is not None
    assert champion.version == version
    assert [message.version for message in champions.messages] == [version]


def test_a_crash_before_the_alias_moved_is_repaired_by_the_next_look(
    champions: Champions, fleet: FrameSnapshot
) -> None:
    version = champions.register(fleet)
    champions.ledger.append(
        after=None, version=version, kind="promotion", reason="", decided_at=AS_OF, back_to=None
    )
    assert champions.registry.champion() is None
    champion = champions.succession.champion()
    assert champion is not None
    assert champion.version == version
    assert [message.epoch for message in champions.messages] == [1]


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


def test_two_promotions_at_once_leave_one_champion_and_true_records(
    champions: Champions, fleet: FrameSnapshot
) -> None:
    champions.register(fleet, params=WEAK)
    champions.promote(fleet)
    rivals = [
        champions.register(fleet, params=MIDDLING),
        champions.register(fleet, params=TrainingParams(num_rounds=50)),
    ]
    start = Barrier(2)
    outcomes: dict[int, Outcome] = {}

    def run(version: int) -> None:
        start.wait(timeout=30)
        outcomes[version] = champions.promote(fleet, version)

    threads = [Thread(target=run, args=(version,)) for version in rivals]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(timeout=60)
    promoted = {outcome.epoch: version for version, outcome in outcomes.items() if outcome.promoted}
    handovers = {entry.epoch: entry.version for entry in champions.ledger.entries() if entry.epoch > 1}
    assert len(outcomes) == 2
    assert handovers == promoted
    assert champions.champion() == rivals[1] == handovers[max(handovers)]
    for outcome in outcomes.values():
        if not outcome.promoted:
            assert f"champion {rivals[1]}" in outcome.decision.reason


def test_a_champion_from_before_the_ledger_is_adopted(champions: Champions, fleet: FrameSnapshot) -> None:
    version = champions.register(fleet, params=WEAK)
    champions.registry.set_alias("champion", version)
    champions.register(fleet)
    assert champions.promote(fleet).promoted
    champions.succession.rollback(as_of=AS_OF)
    assert champions.champion() == version
