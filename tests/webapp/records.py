"""Records of promotions, written as if they had been."""

from datetime import UTC, datetime

from sqlmodel import Session

from vroom_features.database.tables import PromotionRecord
from webapp.services import Services


def add_record(services: Services, *, version: int, **changes: object) -> None:
    history = services.promotions.history(limit=1)
    last = history[0].number if history else 0
    fields = {
        "model_name": services.settings.model_name,
        "number": last + 1,
        "version": version,
        "kind": "promotion",
        "reason": "a test",
        "forced": False,
        "decided_at": datetime(2026, 1, 1, tzinfo=UTC),
        "previous": last or None,
        "is_closed": True,
    }
    with Session(services.source.engine) as session:
        session.add(PromotionRecord(**(fields | changes)))
        session.commit()
