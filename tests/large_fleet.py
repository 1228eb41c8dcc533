"""Fleets of any size, made up and written straight to an offline store."""

from datetime import UTC, datetime

import numpy as np
import pandas as pd

from tests.snapshots import WATCH
from vroom_features.addresses import ServiceAddress
from vroom_features.offline.files import Part, files_at
from vroom_features.offline.partition import digest_of, fleet_rows, order_free_checksum
from vroom_features.offline.snapshots import OfflineStore, Snapshot
from vroom_features.settings import PARTITION_VEHICLES
from vroom_features.vehicle import EXAMPLE
from vroom_features.view import VEHICLE_VIEW

NOW = datetime(2026, 1, 1, tzinfo=UTC)


def write_fleet(root: ServiceAddress, num_vehicles: int) -> None:
    """Write a snapshot of a made-up fleet."""
    offline, rng, parts = OfflineStore(root), np.random.default_rng(0), []
    for first in range(1, num_vehicles + 1, PARTITION_VEHICLES):
        last = min(first + PARTITION_VEHICLES - 1, num_vehicles)
        rows = fleet_rows(make_vehicles(rng, first, last), watch=WATCH)
        file, sha256 = offline.write_part(rows)
        num = len(rows)
        parts.append(Part(first, last, num, num, num, order_free_checksum(rows), file, sha256))
    offline.publish(
        Snapshot(
            id=f"made-up-{num_vehicles}",
            num_rows=num_vehicles,
            digest=digest_of((part.sums for part in parts), num_vehicles, watch=WATCH),
            created_at=NOW,
            source="made up",
            database_id="",
            change_number=0,
            view_name=VEHICLE_VIEW.name,
            view_version=VEHICLE_VIEW.version,
            columns=VEHICLE_VIEW.columns,
            watch_days=WATCH.days,
            complete_through=WATCH.complete_through,
            num_booked_last=None,
            num_booked_before=None,
            as_of=None,
            parts=tuple(parts),
            files=files_at(root),
        )
    )


def make_vehicles(rng: np.random.Generator, first: int, last: int) -> pd.DataFrame:
    """Make up vehicles whose bookings fall with the price ratio and rise with the photos."""
    num = last - first + 1
    market = rng.integers(35, 91, num).astype(float)
    ratio = rng.uniform(0.8, 2.0, num)
    photos = rng.integers(1, 6, num)
    booked = rng.binomial(20, np.clip(0.75 - 0.3 * ratio + 0.02 * photos, 0.02, 0.9))
    columns = {
        "vehicle_id": np.arange(first, last + 1),
        "technology": rng.integers(0, 2, num),
        "actual_price": np.round(market * ratio, 2),
        "recommended_price": market,
        "num_images": photos,
        "street_parked": rng.integers(0, 2, num),
        "description": rng.integers(1, 251, num),
        "source": "csv",
        "num_booked": booked,
        "num_in_watch": booked,
        "watch_start": pd.Timestamp(WATCH.start).as_unit("us"),
        "event_timestamp": pd.Timestamp("2023-11-14", tz="UTC").as_unit("us"),
    }
    return pd.DataFrame(dict(EXAMPLE) | columns)
