"""The last audit is remembered in the store that it looked at."""

import pytest
import redis as redis_py

from tests.vroom_features.stores import NOW
from vroom_features.errors import OnlineStoreError
from vroom_features.online.store import LAST_AUDIT, OnlineStore
from vroom_features.online.sync import AuditReport, LastAudit, last_audit, record_audit

REPORT = AuditReport(num_new_arrivals=9, missing=1, stale=0, wrong=2, orphaned=0)


def test_an_audit_is_remembered_until_the_store_is_emptied(online: OnlineStore) -> None:
    assert last_audit(online) is None
    record_audit(online, REPORT, as_of=NOW)
    assert last_audit(online) == LastAudit(NOW, REPORT)
    assert REPORT.num_differences == 3
    online.clear()
    assert last_audit(online) is None


@pytest.mark.parametrize("note", [b"junk", b"[]", b"{}", b'{"audited_at": "soon"}', b'{"audited_at": 3}'])
def test_a_note_that_cannot_be_read_counts_as_none(
    online: OnlineStore, redis: redis_py.Redis, note: bytes
) -> None:
    redis.set(LAST_AUDIT, note)
    assert last_audit(online) is None


def test_a_store_that_is_away_says_so() -> None:
    away = OnlineStore.connect("redis://127.0.0.1:1/0")
    with pytest.raises(OnlineStoreError):
        last_audit(away)
