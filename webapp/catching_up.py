"""Making good what the online store missed: every change of the database since the last one it followed."""

from datetime import datetime

from vroom_features.stores.online import OnlineStore, online_row
from vroom_features.stores.source import SourceStore


def catch_up(source: SourceStore, online: OnlineStore, *, as_of: datetime) -> int:
    """Follow the changes of typed-in vehicles; an emptied store is filled again.

    Returns
    -------
    int
        Rows written or removed.

    Raises
    ------
    OnlineStoreError
        If Redis is away.
    SourceStoreError
        If the database is.
    """
    followed = online.synced_change() or 0
    num_rows = 0
    is_complete = False
    while not is_complete:
        changes = source.changes_since(followed)
        arrivals = [vehicle for vehicle in changes.vehicles if vehicle.is_new_arrival]
        booked = {v.vehicle_id: v.row_version for v in changes.vehicles if not v.is_new_arrival}
        num_rows += online.put(online_row(vehicle, materialized_at=as_of) for vehicle in arrivals)
        for vehicle_id, row_version in (booked | changes.deleted).items():
            num_rows += online.delete([vehicle_id], row_version=row_version)
        is_complete = changes.complete
        followed = changes.change_number if is_complete else changes.vehicles[-1].row_version
    online.mark_synced(followed)
    return num_rows
