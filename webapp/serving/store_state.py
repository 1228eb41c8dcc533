"""What both feature stores hold.

Snapshots are listed by their manifests, which are JSON: pyarrow would take more memory than a model.
"""

from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path

from vroom_features.addresses import ServiceAddress
from vroom_features.errors import UnreadableSnapshotError
from vroom_features.offline.files import Files, LocalFiles, Manifest, current_id, files_at
from vroom_features.online.redis_client import memory_info, memory_warning
from vroom_features.online.rows import freshness
from vroom_features.online.sync import LastAudit, last_audit
from vroom_features.vehicle import COLUMNS
from vroom_features.view import VEHICLE_VIEW
from webapp.services import Services

NUM_SNAPSHOTS = 20
NUM_CHECKED = 100


@dataclass(frozen=True)
class SnapshotState(Manifest):
    """A snapshot, whether it is the current one, and the size of its files, if known."""

    is_current: bool = False
    num_bytes: int | None = None


@dataclass(frozen=True, slots=True)
class OfflineState:
    """The offline store: its snapshots, newest first, and what could not be read."""

    location: str
    snapshots: tuple[SnapshotState, ...] = ()
    problem: str = ""


@dataclass(frozen=True, slots=True)
class OnlineState:
    """The online store; without numbers while it is not reachable."""

    num_rows: int | None = None
    num_missing: int | None = None
    """New arrivals without a row; a negative number counts rows too many."""
    num_checked: int = 0
    """Of the newest arrivals."""
    num_fresh: int = 0
    used_bytes: int | None = None
    """Memory of the whole Redis server, if its user may ask."""
    audit: LastAudit | None = None
    problem: str = ""
    warning: str = ""

    @property
    def is_in_sync(self) -> bool:
        """True when every row that was checked is there and fresh."""
        return not self.problem and self.num_missing == 0 and self.num_fresh == self.num_checked


def feature_name(name: str) -> str:
    """Return a feature's label.

    Examples
    --------
    >>> feature_name("price_diff"), feature_name("num_images"), feature_name("of_another_release")
    ('Price against the market', 'Photos', 'Of another release')
    """
    known = COLUMNS.get(name) or VEHICLE_VIEW.feature(name)
    return known.label if known else name.replace("_", " ").capitalize()


def feature_unit(name: str) -> str:
    """Return what a value of 1 is, or which values there are.

    Examples
    --------
    >>> feature_unit("num_images"), feature_unit("technology")
    ('photos', '0 or 1')
    """
    if name in COLUMNS:
        return COLUMNS[name].unit or COLUMNS[name].range_in_words
    feature = VEHICLE_VIEW.feature(name)
    return feature.unit if feature else ""


def current_manifest(address: ServiceAddress) -> Manifest | None:
    """Return the manifest of the current snapshot; None without one that can be read."""
    try:
        return _current(files_at(address))
    except (OSError, ValueError, UnreadableSnapshotError):
        return None


def _current(files: Files) -> Manifest:
    snapshot_id = current_id(files)
    return Manifest.from_json(snapshot_id, files.read(f"snapshots/{snapshot_id}.json"))


def offline_state(address: ServiceAddress) -> OfflineState:
    """Return what the offline store holds."""
    files, location = files_at(address), str(address)
    found: list[SnapshotState] = []
    try:
        names = [name for name in files.names("snapshots") if name.endswith(".json")]
        if not names:
            return OfflineState(location=location)
        current = _current(files).id
        for name in names:
            # One may be swept meanwhile, or of another release.
            with suppress(FileNotFoundError, UnreadableSnapshotError):
                content = files.read(f"snapshots/{name}")
                found.append(SnapshotState.from_json(name.removesuffix(".json"), content))
    except (OSError, ValueError, UnreadableSnapshotError) as exc:
        return OfflineState(location=location, problem=f"{type(exc).__name__}: {exc}")
    found.sort(key=lambda snapshot: snapshot.created_at, reverse=True)
    root = files.root if isinstance(files, LocalFiles) else None
    shown = tuple(
        replace(snapshot, is_current=snapshot.id == current, num_bytes=_size(snapshot, root))
        for snapshot in found[:NUM_SNAPSHOTS]
    )
    return OfflineState(location=location, snapshots=shown)


def online_state(app: Services) -> OnlineState:
    """Return what the online store holds, compared with the new arrivals that it should hold."""
    newest = app.source.list_vehicles(kind="new", descending=True, page_size=NUM_CHECKED)

    def read() -> OnlineState:
        num_rows, memory = app.online.count_rows(), memory_info(app.redis)
        rows = app.online.get_many(vehicle.vehicle_id for vehicle in newest.items)
        fresh = [freshness(rows.get(vehicle.vehicle_id), vehicle) for vehicle in newest.items]
        return OnlineState(
            num_rows=num_rows,
            num_missing=newest.total - num_rows,
            num_checked=len(fresh),
            num_fresh=fresh.count("fresh"),
            used_bytes=sum(node["used_memory"] for node in memory) if memory else None,
            audit=last_audit(app.online),
            warning=memory_warning(memory),
        )

    heartbeat = app.heartbeat
    return heartbeat.try_redis(read) or OnlineState(
        problem=heartbeat.problem or "; ".join(heartbeat.refused.values())
    )


def _size(snapshot: SnapshotState, root: Path | None) -> int | None:
    """Return the bytes of a snapshot's files in a local folder; shared files count for each snapshot."""
    if root is None:
        return None
    try:
        return sum((root / part.file).stat().st_size for part in snapshot.parts)
    except OSError:  # deleted a moment ago
        return None
