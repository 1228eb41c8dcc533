"""The features of many vehicles at once: read a range of ids, compute it by the pure functions, digest it."""

import hashlib
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from vroom_features.arrow import to_arrow, to_numpy
from vroom_features.errors import SkewError
from vroom_features.features import is_watched
from vroom_features.stores.bulk import BulkConnection
from vroom_features.vehicle import COLUMNS
from vroom_features.view import VEHICLE_VIEW

LOWEST, HIGHEST = -(2**63), 2**63 - 1
RAW = tuple(COLUMNS)
SKEW_SAMPLE = 16
"""How many vehicles of each range are computed a second time, one by one."""

Array = npt.NDArray[Any]

RAW_SCHEMA = pa.schema(
    [
        ("vehicle_id", pa.int64()),
        *((name, pa.int64() if column.is_whole else pa.float64()) for name, column in COLUMNS.items()),
    ]
)
_VEHICLES = RAW_SCHEMA.append(pa.field("is_csv", pa.int64())).append(pa.field("row_version", pa.int64()))
_BOOKINGS = pa.schema([("vehicle_id", pa.int64()), ("num", pa.int64()), ("newest", pa.int64())])
_NEVER = np.iinfo(np.int64).min
_SALTS = np.random.default_rng(20230101).integers(0, 2**63, (2, 32), dtype=np.uint64) * 2 + 1


@dataclass(frozen=True)
class VehicleColumns:
    """Raw columns of vehicles in the order of ids, their bookings counted, and the moment of the newest."""

    columns: dict[str, Array]
    count: Array
    newest: Array

    @property
    def is_fleet(self) -> Array:
        """True where the bookings are known."""
        fleet: Array = is_watched(self.columns["is_csv"] == 1, self.count)
        return fleet


def read_range(bulk: BulkConnection, low: int, high: int, *, where: str = "1=1") -> VehicleColumns:
    """Read the vehicles of a range of ids.

    Parameters
    ----------
    bulk : BulkConnection
    low, high : int
        Both included.
    where : str
        A further condition on ``vehicles``, made by this library.
    """
    # every value in these queries is an integer of ours, so nothing can be injected
    span = f"vehicle_id BETWEEN {max(low, -HIGHEST)} AND {high}"
    names = ", ".join(("vehicle_id", *RAW))
    vehicles = bulk.table(
        f"SELECT {names}, CASE WHEN source = 'csv' THEN 1 ELSE 0 END AS is_csv, row_version"  # noqa: S608
        f" FROM vehicles WHERE {span} AND {where} ORDER BY vehicle_id",
        _VEHICLES,
    )
    newest = bulk.microseconds("MAX(created_at)")
    bookings = bulk.table(
        f"SELECT vehicle_id, COUNT(*) AS num, {newest} AS newest FROM reservations"  # noqa: S608
        f" WHERE {span} GROUP BY vehicle_id ORDER BY vehicle_id",
        _BOOKINGS,
    )
    columns = {name: to_numpy(vehicles[name]) for name in vehicles.column_names}
    ids, booked = columns["vehicle_id"], to_numpy(bookings["vehicle_id"])
    count, last = np.zeros(len(ids), np.int64), np.full(len(ids), _NEVER)
    if len(ids):
        position = np.minimum(np.searchsorted(ids, booked), len(ids) - 1)
        known = ids[position] == booked
        count[position[known]] = to_numpy(bookings["num"])[known]
        last[position[known]] = to_numpy(bookings["newest"])[known]
    return VehicleColumns(columns, count, last)


def fleet_table(vehicles: VehicleColumns) -> pa.Table:
    """Return the offline rows of a range: its fleet vehicles, with features, label and event timestamp.

    Raises
    ------
    SkewError
        If the request path computes a sampled vehicle differently.
    """
    fleet = vehicles.is_fleet
    raw = {name: values[fleet] for name, values in vehicles.columns.items()}
    features = VEHICLE_VIEW.compute(raw)
    check_skew(raw, features)
    newest = vehicles.newest[fleet]
    numbers = {
        VEHICLE_VIEW.join_key: raw["vehicle_id"],
        **features,
        **{name: raw[name] for name in VEHICLE_VIEW.attributes},
        VEHICLE_VIEW.label: vehicles.count[fleet],
    }
    moment = to_arrow(newest, pa.timestamp("us", "UTC"), missing=newest == _NEVER)
    return pa.table(
        {name: to_arrow(values) for name, values in numbers.items()} | {"event_timestamp": moment}
    )


def check_skew(raw: dict[str, Array], features: dict[str, Array]) -> None:
    """Compute some vehicles again as a request would, and compare bit for bit."""
    num = len(raw["vehicle_id"])
    for i in np.unique(np.linspace(0, num - 1, min(num, SKEW_SAMPLE)).astype(int)).tolist():
        single = VEHICLE_VIEW.compute({name: raw[name][i].item() for name in VEHICLE_VIEW.sources})
        for name, value in single.items():
            batch = features[name][i]
            if np.float64(value).tobytes() != np.float64(batch).tobytes():
                raise SkewError(int(raw["vehicle_id"][i]), name, value, batch.item())


def row_sums(table: pa.Table) -> tuple[int, int]:
    """Return two sums over hashes of the rows: equal for the same rows, however they are split or ordered."""
    if not table.num_rows:
        return 0, 0
    lanes = np.zeros((2, table.num_rows), np.uint64)
    for i, name in enumerate(table.column_names):
        column = table[name]
        if column.type != pa.float64():
            column = column.cast(pa.int64())
        bits = to_numpy(column, missing=_NEVER).view(np.uint64)
        for lane, salt in zip(lanes, _SALTS[:, i], strict=True):
            lane += bits * salt
            lane ^= lane >> np.uint64(29)
    lanes *= np.uint64(0xBF58476D1CE4E5B9)
    lanes ^= lanes >> np.uint64(32)
    first, second = lanes.sum(axis=1, dtype=np.uint64).tolist()
    return first, second


def digest_of(sums: Iterable[tuple[int, int]], num_rows: int) -> str:
    """Return the digest of a whole fleet from the sums of its parts and the view."""
    totals = [sum(lane) % 2**64 for lane in zip((0, 0), *sums, strict=True)]
    names = (*VEHICLE_VIEW.columns, *VEHICLE_VIEW.attributes, VEHICLE_VIEW.label)
    identity = (VEHICLE_VIEW.name, VEHICLE_VIEW.version, names, num_rows, totals)
    return hashlib.sha256(repr(identity).encode()).hexdigest()


def split_ids(bulk: BulkConnection, low: int, high: int, size: int) -> Iterator[tuple[int, int]]:
    """Split a range of ids into ranges of at most ``size`` vehicles each; together they cover it whole."""
    start, seen = low, 0
    query = f"SELECT vehicle_id FROM vehicles WHERE vehicle_id BETWEEN {max(low, -HIGHEST)} AND {high}"  # noqa: S608
    for batch in bulk.batches(f"{query} ORDER BY vehicle_id"):
        ids = batch.column(0)
        for position in range((-seen) % size, len(ids), size):
            if seen + position:
                first = ids[position].as_py()
                yield start, first - 1
                start = first
        seen += len(ids)
    yield start, high
