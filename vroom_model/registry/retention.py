"""Forgetting old model versions, with their runs and files in MLflow."""

from vroom_model.registry.promotion import PromotionService


def delete_old_versions(promotions: PromotionService, *, keep: int) -> list[int]:
    """Delete all but the newest versions; those with an alias or in the history of champions stay too.

    A version goes last, after its files and its run, so that a deletion cut short is gone on with next time.

    Parameters
    ----------
    promotions : PromotionService
        A rollback may need every champion in its history.
    keep : int
        How many of the newest versions stay whatever they are.

    Returns
    -------
    list of int
        What was deleted.
    """
    needed = {record.version for record in promotions.history()}
    registry = promotions.registry
    old = [found for found in registry.versions()[keep:] if not found.aliases and found.version not in needed]
    for found in old:
        registry.delete(found)
    return [found.version for found in old]
