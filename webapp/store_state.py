"""What both feature stores hold, read without the libraries that write them.

A web worker lists snapshots by their manifests, which are JSON: pyarrow would take more memory than a model.
"""

import json
from datetime import datetime
from pathlib import Path

from pydantic import BaseModel, ValidationError
from redis.exceptions import RedisError

from vroom_features.errors import OnlineStoreError
from vroom_features.stores.files import LocalFiles, files_at
from webapp.services import Services

NUM_SNAPSHOTS = 20


class PartState(BaseModel):
    """A file of a snapshot."""

    file: str
    num_rows: int


class SnapshotState(BaseModel):
    """A snapshot of the fleet, as its manifest tells."""

    id: str
    num_rows: int
    digest: str
    created_at: datetime
    source: str
    view_name: str
    view_version: int
    parts: tuple[PartState, ...]
    is_current: bool = False
    num_bytes: int | None = None


class OfflineState(BaseModel):
    """The offline store: its snapshots, newest first, and what could not be read."""

    location: str
    snapshots: list[SnapshotState] = []
    problem: str = ""


class OnlineState(BaseModel):
    """The online store; without numbers while it is away."""

    num_rows: int | None = None
    num_missing: int | None = None
    used_bytes: int | None = None
    problem: str = ""


def offline_state(location: str) -> OfflineState:
    """Return what the offline store holds."""
    files = files_at(location)
    try:
        names = [name for name in files.names("snapshots") if name.endswith(".json")]
        if not names:
            return OfflineState(location=location)
        current = json.loads(files.read("current.json"))["snapshot"]
        found = [SnapshotState.model_validate_json(files.read(f"snapshots/{name}")) for name in names]
    except (OSError, ValueError, KeyError, ValidationError) as exc:
        return OfflineState(location=location, problem=f"{type(exc).__name__}: {exc}")
    found.sort(key=lambda snapshot: snapshot.created_at, reverse=True)
    root = files.root if isinstance(files, LocalFiles) else None
    return OfflineState(
        location=location,
        snapshots=[
            snapshot.model_copy(
                update={"is_current": snapshot.id == current, "num_bytes": _size(snapshot, root)}
            )
            for snapshot in found[:NUM_SNAPSHOTS]
        ],
    )


def online_state(app: Services) -> OnlineState:
    """Return what the online store holds, against the new arrivals that it should hold."""
    try:
        num_rows = app.online.stats().num_rows
        used = app.redis.info("memory")
    except (OnlineStoreError, RedisError) as exc:
        return OnlineState(problem=str(exc))
    expected = app.source.count_vehicles().new_arrivals
    return OnlineState(num_rows=num_rows, num_missing=expected - num_rows, used_bytes=used["used_memory"])


def _size(snapshot: SnapshotState, root: Path | None) -> int | None:
    """Return the bytes of a snapshot's files in a local folder; shared files count for each snapshot."""
    if root is None:
        return None
    try:
        return sum((root / part.file).stat().st_size for part in snapshot.parts)
    except OSError:  # swept a moment ago
        return None
