"""What an audit of the online store found; the last one is remembered beside the rows it looked at.

Light enough for a web worker; :mod:`vroom_features.online_batch` does the audit itself.
"""

from dataclasses import asdict, dataclass
from datetime import datetime
from typing import cast

import orjson

from vroom_features.stores.online import LAST_AUDIT, OnlineStore, translated


@dataclass(frozen=True, slots=True)
class AuditReport:
    """How the online store differs from the pure functions on the database; all 0 when it does not.

    ``missing``: a new arrival has no row.  ``stale``: its row was made from an older version, or other view.
    ``wrong``: a row of the right version that holds something else.  ``orphaned``: a row of no new arrival.
    """

    num_new_arrivals: int
    missing: int
    stale: int
    wrong: int
    orphaned: int

    @property
    def num_differences(self) -> int:
        """How many rows differ, in whatever way."""
        return self.missing + self.stale + self.wrong + self.orphaned

    @property
    def is_clean(self) -> bool:
        """True when nothing differs."""
        return self.num_differences == 0


@dataclass(frozen=True, slots=True)
class LastAudit:
    """An audit and its moment."""

    audited_at: datetime
    report: AuditReport


def remember_audit(online: OnlineStore, report: AuditReport, *, as_of: datetime) -> None:
    """Write an audit down in the store; a store that is emptied forgets it."""
    note = orjson.dumps({"audited_at": as_of, **asdict(report)})
    with translated():
        online.client.set(LAST_AUDIT, note)


def last_audit(online: OnlineStore) -> LastAudit | None:
    """Return the last audit; None when there was none, or another program wrote it otherwise."""
    with translated():
        note = cast("bytes | None", online.client.get(LAST_AUDIT))
    if note is None:
        return None
    try:
        found = orjson.loads(note)
        audited_at = datetime.fromisoformat(found.pop("audited_at"))
        return LastAudit(audited_at, AuditReport(**{name: int(value) for name, value in found.items()}))
    except (ValueError, TypeError, KeyError, AttributeError):
        return None
