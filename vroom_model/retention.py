"""Forgetting old model versions, with their runs and files in MLflow."""

from vroom_model.ledger import Ledger
from vroom_model.registry import Registry


def forget_old_versions(registry: Registry, ledger: Ledger, *, keep: int) -> list[int]:
    """Delete all but the newest versions; those with an alias or in the ledger of champions stay too.

    A version goes last, after its files and its run, so that a deletion cut short is gone on with next time.

    Parameters
    ----------
    registry : Registry
    ledger : Ledger
        A rollback may need every champion it names.
    keep : int
        How many of the newest versions stay whatever they are.

    Returns
    -------
    list of int
        What was deleted.
    """
    needed = {entry.version for entry in ledger.entries()}
    old = [found for found in registry.versions()[keep:] if not found.aliases and found.version not in needed]
    for found in old:
        registry.delete(found)
    return [found.version for found in old]
