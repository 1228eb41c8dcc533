"""Bring the online store up to the database: new arrivals in, booked and deleted vehicles out.

The store remembers the last change it followed.  When that is missing (a new or emptied Redis) or belongs to
another database, the store is filled anew; else only what changed is brought in.
"""

from datetime import datetime
from typing import TYPE_CHECKING

from vroom_features.stores.online import OnlineStore, Synced, freshness, online_row

if TYPE_CHECKING:
    from vroom_features.stores.source import SourceStore

CHUNK = 10_000


def catch_up(source: "SourceStore", online: OnlineStore, *, as_of: datetime, anew: bool = True) -> int:
    """Bring in what changed since the store last followed; cheap when nothing did.

    Parameters
    ----------
    source : SourceStore
    online : OnlineStore
    as_of : datetime
        Written down as the rows' time of making.
    anew : bool
        Whether to empty a store that holds rows of another database or view, and to write changed rows again
        that are there and fresh; else both are left as they are.

    Returns
    -------
    int
        How many rows were written or removed.

    Raises
    ------
    SourceStoreError, OnlineStoreError
        If one of them is away; call again later.
    """
    synced = online.synced()
    since = 0 if synced is None else synced.change_number
    changes = source.changes_since(since, limit=CHUNK)
    target = Synced(changes.database_id, changes.change_number)
    if synced == target:
        return 0
    if synced is None or (synced.database_id, synced.view) != (target.database_id, target.view):
        if synced is not None and not anew:
            return 0
        online.clear()
        since = 0
        changes = source.changes_since(since, limit=CHUNK)
    num_changed = sum(online.delete([gone], row_version=version) for gone, version in changes.deleted.items())
    while True:
        arrivals = [
            vehicle
            for vehicle in changes.vehicles
            if vehicle.is_new_arrival
            and (anew or freshness(online.get(vehicle.vehicle_id), vehicle) != "fresh")
        ]
        num_changed += online.put(online_row(vehicle, materialized_at=as_of) for vehicle in arrivals)
        for vehicle in changes.vehicles:
            if not vehicle.is_new_arrival:
                num_changed += online.delete([vehicle.vehicle_id], row_version=vehicle.row_version)
        if changes.complete:
            online.mark_synced(target)
            return num_changed
        changes = source.changes_since(since, after=changes.vehicles[-1].vehicle_id, limit=CHUNK)
