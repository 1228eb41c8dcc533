"""Carrying out what the ledger says: the note on the version, the alias, the message.

A change of champion is decided by its entry in the ledger.  What follows can be done twice without harm, so
whoever looks next finishes what a crash cut off.
"""

import json
import logging
import time
from collections.abc import Callable

from vroom_model.errors import LedgerError, ModelNotFoundError, RegistryError, UnsettledError
from vroom_model.ledger import Handover, Ledger
from vroom_model.messages import ModelPromoted
from vroom_model.registry import ModelVersion, Registry

logger = logging.getLogger(__name__)
PATIENCE_S = 5.0
"""How long a process is left to finish its own change of champion."""


class Settlement:
    """Makes the registry follow the ledger.

    Parameters
    ----------
    registry, ledger, publish
        As ``Succession`` takes them.
    """

    def __init__(
        self, registry: Registry, ledger: Ledger, *, publish: Callable[[ModelPromoted], None]
    ) -> None:
        self.registry = registry
        self.ledger = ledger
        self._publish = publish
        self._unfinished: tuple[int, float] | None = None

    def settle(self, entry: Handover) -> None:
        """Note the decision, move the alias, tell the workers, mark it done; then look once more.

        Raises
        ------
        ModelNotFoundError
            If the version is gone from the registry.
        UnsettledError
            If the registry or the ledger cannot be used now.
        """
        while True:
            try:
                self._carry_out(entry)
            except ModelNotFoundError:
                raise
            except (RegistryError, LedgerError) as exc:
                raise UnsettledError(epoch=entry.epoch, version=entry.version, problem=exc) from exc
            # A process that was held up here may have set the alias after a later epoch did.
            last = self.ledger.head()
            if last is None or last.epoch == entry.epoch:
                return
            entry = last

    def repair(self) -> Handover | None:
        """Make the alias follow the ledger, and return the ledger's last handover.

        A champion set before there was a ledger is adopted.  An alias moved by hand is put back: promote the
        version instead, by force if it must be.
        """
        while True:
            head = self.ledger.head()
            champion = self.registry.champion()
            if head is None:
                if champion is None:
                    return None
                self.ledger.append(
                    after=None,
                    version=champion.version,
                    kind="adopted",
                    reason="was champion before there was a ledger",
                    decided_at=champion.created_at,
                    back_to=None,
                    settled=True,
                )
            elif head.settled and champion and champion.version == head.version and is_of(head, champion):
                return head
            else:
                logger.warning(
                    "champion alias follows the ledger version=%s epoch=%s", head.version, head.epoch
                )
                try:
                    self.settle(head)
                except ModelNotFoundError:
                    logger.exception("the champion is gone from the registry version=%s", head.version)
                    return head

    def finish(self, *, patience_s: float = PATIENCE_S) -> None:
        """Finish the last change of champion if it was seen unfinished before, and for so long.

        For a reader that looks every few seconds, as web workers do.  It reads one row and leaves alone what
        ``repair`` judges beyond that: an alias that somebody moved by hand stays until the next promotion.
        """
        head = self.ledger.head()
        if head is None or head.settled:
            self._unfinished = None
        elif self._unfinished is None or self._unfinished[0] != head.epoch:
            self._unfinished = (head.epoch, time.monotonic())
        elif time.monotonic() - self._unfinished[1] >= patience_s:
            self.settle(head)
            logger.warning(
                "finished what another process began version=%s epoch=%s", head.version, head.epoch
            )

    def version_of(self, entry: Handover) -> ModelVersion:
        """Return the version that became champion; ModelNotFoundError if it is gone or is another by now."""
        version = self.registry.version(entry.version)
        if not is_of(entry, version):
            raise ModelNotFoundError(
                f"version {entry.version} is not the model that became champion as epoch {entry.epoch}: "
                "the registry was lost since, and its numbers began anew"
            )
        return version

    def _carry_out(self, entry: Handover) -> None:
        self.version_of(entry)
        self._note(entry)
        self.registry.set_alias("champion", entry.version)
        self._publish(
            ModelPromoted(model_name=self.ledger.model_name, version=entry.version, epoch=entry.epoch)
        )
        self.ledger.settle(entry.epoch)

    def _note(self, entry: Handover) -> None:
        """Keep the decision that made a version champion on that version."""
        tags = {"decision_reason": entry.reason, "decided_at": entry.decided_at.isoformat()}
        if entry.decision:
            tags |= {"decision": entry.decision, "decision_reason": json.loads(entry.decision)["reason"]}
        self.registry.set_tags(entry.version, tags | {"epoch": str(entry.epoch)})


def is_of(entry: Handover, version: ModelVersion) -> bool:
    """Tell whether a version is the model that an entry names; an entry without its run may name any."""
    run_id = json.loads(entry.decision).get("candidate_run_id") if entry.decision else None
    return run_id is None or run_id == version.run_id
