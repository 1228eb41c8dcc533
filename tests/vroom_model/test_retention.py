"""Old model versions go, with their runs and files; what a rollback may need stays."""

import mlflow
import pytest

from tests.snapshots import FrameSnapshot
from tests.vroom_model.champions import Champions
from vroom_model.errors import BrokenModelError
from vroom_model.registry.promotion import PromotionService
from vroom_model.registry.registry import Registry
from vroom_model.training.train import TrainedModel


def delete_old(promotions: PromotionService, *, keep: int) -> list[int]:
    needed = {record.version for record in promotions.history()}
    return promotions.registry.delete_old_versions(keep=keep, needed=needed)


def test_old_versions_go_with_their_files_and_champions_stay(
    champions: Champions, fleet: FrameSnapshot
) -> None:
    registry, promotions = champions.registry, champions.service
    first = champions.register(fleet)
    champions.promote(fleet, first)
    old = registry.version(champions.register(fleet, seed=1))
    second = champions.register(fleet, seed=2)
    assert champions.promote(fleet, second, force_reason="to have a predecessor").promoted
    newest = champions.register(fleet, seed=3)
    assert delete_old(promotions, keep=4) == []
    assert delete_old(promotions, keep=1) == [old.version]
    assert [found.version for found in registry.versions()] == [newest, second, first]
    client = mlflow.MlflowClient(registry.address.url)
    assert client.get_run(old.run_id).info.lifecycle_stage == "deleted"
    with pytest.raises(BrokenModelError, match="is missing in MLflow"):
        registry.download(old, champions.folder / "gone")
    registry.download(registry.version(first), champions.folder / "kept")
    registry.delete(old)  # again: what is gone is left at that
    assert delete_old(promotions, keep=1) == []


def test_files_stay_for_a_version_that_came_of_the_same_run(
    champions: Champions, trained: TrainedModel
) -> None:
    registry, promotions = champions.registry, champions.service
    client = mlflow.MlflowClient(registry.address.url)
    old = champions.register_trained(trained).version
    source = client.get_model_version(registry.model_name, str(old.version)).source
    for name in (registry.model_name, f"{registry.model_name}-copy"):
        if name != registry.model_name:
            client.create_registered_model(name)
        client.create_model_version(name, source, old.run_id, tags=dict(old.tags))
    registry.set_alias("candidate", 2)
    assert delete_old(promotions, keep=1) == [old.version]
    registry.download(registry.version(2), champions.folder / "same model")
    registry.delete(registry.version(2))
    registry.download(old, champions.folder / "for the other model")
    with Registry(registry.address, f"{registry.model_name}-copy") as copies:
        copies.delete(copies.version(1))
    with pytest.raises(BrokenModelError, match="is missing in MLflow"):
        registry.download(old, champions.folder / "gone")
