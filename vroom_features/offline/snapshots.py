"""The offline store: immutable snapshots of the fleet, as Parquet.

::

    data/<sha256>.parquet     rows of a range of vehicles; named by its content, shared between snapshots
    snapshots/<id>.json       a manifest: which files, how many rows, made when and from what
    current.json              the id of the latest snapshot; replaced atomically, and written last
    current/                  in a local folder: its Parquet files and no others, for any program; a link to
    .links/<id>/              that is replaced atomically, before current.json

A reader that has a manifest sees that snapshot, whatever is written meanwhile.
"""

import hashlib
import json
import logging
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pyarrow as pa
import pyarrow.parquet as pq
from filelock import FileLock

from vroom_features.addresses import ServiceAddress
from vroom_features.errors import NoSnapshotError, OfflineStoreError, UnreadableSnapshotError
from vroom_features.offline.files import (
    Files,
    LocalFiles,
    Manifest,
    MemoryFiles,
    Part,
    checked_id,
    current_id,
    files_at,
)
from vroom_features.view import VEHICLE_VIEW

if TYPE_CHECKING:
    import pandas as pd

logger = logging.getLogger(__name__)
LINKS = ".links"
"""Programs that read a folder with all that is below skip one with such a name."""


@dataclass(frozen=True, kw_only=True)
class Snapshot(Manifest):
    """One state of the fleet, and the files that it is in."""

    files: Files | MemoryFiles = field(repr=False, compare=False)

    @classmethod
    def of_frame(cls, rows: "pd.DataFrame", *, created_at: datetime) -> "Snapshot":
        """Return a snapshot that is in memory alone, of rows with the columns of a stored one."""
        content = _to_parquet(rows)
        sha256 = hashlib.sha256(content).hexdigest()
        num_labels = int(rows[VEHICLE_VIEW.label].notna().sum())
        part = Part(0, 0, len(rows), len(rows), num_labels, (0, 0), "rows.parquet", sha256)
        return cls(
            id=f"frame-{sha256[:12]}",
            num_rows=len(rows),
            digest=sha256,
            created_at=created_at,
            source="a DataFrame",
            database_id="",
            change_number=0,
            parts=(part,),
            files=MemoryFiles({part.file: content}),
        )

    def paths(self) -> list[str]:
        """Return the Parquet files, as paths or URLs that pandas, Polars and DuckDB read.

        They are kept as long as the snapshot is.
        """
        return [self.files.path(part.file) for part in self.parts]

    def read(self, columns: Sequence[str] | None = None) -> "pd.DataFrame":
        """Return all rows in the order of ids; OfflineStoreError if a file is lost or damaged."""
        frame: pd.DataFrame = self.table(columns).to_pandas()
        return frame

    def table(self, columns: Sequence[str] | None = None) -> pa.Table:
        """Return all rows as an Arrow table."""
        return pa.concat_tables([self._part(part, columns) for part in self.parts])

    def batches(self, columns: Sequence[str] | None = None) -> Iterator[pa.RecordBatch]:
        """Yield the rows a part at a time, so that memory does not grow with the fleet."""
        for part in self.parts:
            yield from self._part(part, columns).to_batches()

    def damaged(self) -> set[int]:
        """Read every part, and return the numbers of those that are lost or damaged."""
        found = set()
        for number, part in enumerate(self.parts):
            try:
                self._content(part)
            except OfflineStoreError:
                found.add(number)
        return found

    def _part(self, part: Part, columns: Sequence[str] | None) -> pa.Table:
        wanted = None if columns is None else list(columns)
        return pq.read_table(pa.BufferReader(self._content(part)), columns=wanted)

    def _content(self, part: Part) -> bytes:
        """Read one part's file and compare its checksum."""
        try:
            content = self.files.read(part.file)
        except (OSError, ValueError) as exc:  # ValueError: a name that no file can have
            raise OfflineStoreError(
                f"snapshot {self.id}: {part.file} cannot be read ({exc}); read the current snapshot instead"
            ) from exc
        if hashlib.sha256(content).hexdigest() != part.sha256:
            raise OfflineStoreError(
                f"snapshot {self.id}: {part.file} is not what was written; run materialize again"
            )
        return content


def _to_parquet(rows: "pd.DataFrame") -> bytes:
    table = pa.table({name: _to_arrow(rows[name]) for name in map(str, rows)})
    sink = pa.BufferOutputStream()
    pq.write_table(table, sink, compression="lz4")
    return bytes(sink.getvalue().to_pybytes())


def _to_arrow(column: "pd.Series[Any]") -> pa.Array:
    """Return a column for Parquet; moments in UTC (pyarrow's own conversion makes pandas 3 warn)."""
    if column.dtype.kind != "M":
        return pa.array(column)
    naive = pa.array(column.dt.tz_localize(None).to_numpy(), pa.timestamp("us"), from_pandas=True)
    return naive.cast(pa.timestamp("us", "UTC"))


class OfflineStore:
    """Snapshots in a folder or under an fsspec URL.

    Parameters
    ----------
    root : str, Path or ServiceAddress
        Made when first written.
    """

    def __init__(self, root: str | Path | ServiceAddress) -> None:
        self.root = ServiceAddress(root)
        self.files = files_at(self.root)

    def current(self) -> Snapshot:
        """Return the latest snapshot; NoSnapshotError if nothing was materialized yet.

        If it or ``current.json`` is damaged or of another release, that is an UnreadableSnapshotError.
        """
        with self._translated():
            try:
                snapshot_id = current_id(self.files)
            except FileNotFoundError as exc:
                raise NoSnapshotError(self.root) from exc
            return self.snapshot(snapshot_id)

    def snapshots(self) -> list[Snapshot]:
        """Return the snapshots that are kept and can be read, oldest first."""
        found = []
        for snapshot_id in self._ids():
            with suppress(UnreadableSnapshotError):  # of another release, or swept meanwhile
                found.append(self.snapshot(snapshot_id))
        return sorted(found, key=lambda snapshot: (snapshot.created_at, snapshot.change_number))

    def _ids(self) -> list[str]:
        with self._translated():
            return [n.removesuffix(".json") for n in self.files.names("snapshots") if n.endswith(".json")]

    def snapshot(self, snapshot_id: str) -> Snapshot:
        """Return one snapshot; UnreadableSnapshotError if it is lost, damaged or of another release."""
        with self._translated():
            try:
                content = self.files.read(f"snapshots/{checked_id(snapshot_id)}.json")
            except FileNotFoundError as exc:
                problem = f"{self.root} has no manifest of it; it was swept or lost"
                raise UnreadableSnapshotError(snapshot_id, problem) from exc
            return Snapshot.from_json(snapshot_id, content, files=self.files)

    def write_part(self, rows: "pd.DataFrame") -> tuple[str, str]:
        """Write rows and return the file's name and SHA-256; equal rows make the same file."""
        content = _to_parquet(rows)
        sha256 = hashlib.sha256(content).hexdigest()
        name = f"data/{sha256[:32]}.parquet"
        with self._translated():
            self.files.write(name, content)
        return name, sha256

    def publish(self, snapshot: Snapshot) -> None:
        """Write a snapshot, whose parts are written, and make it current unless it is a past state."""
        with self._translated():
            self.files.write(f"snapshots/{snapshot.id}.json", snapshot.to_json())
            if snapshot.as_of is None:
                self._link(snapshot)
                self.files.write("current.json", json.dumps({"snapshot": snapshot.id}).encode())

    def _link(self, snapshot: Snapshot) -> None:
        """Make ``current/`` the files of a snapshot, in a local folder on a file system that has links."""
        if isinstance(self.files, LocalFiles):
            try:
                self.files.link("current", f"{LINKS}/{snapshot.id}", [part.file for part in snapshot.parts])
            except OSError as exc:
                logger.warning("no folder current in %s, use paths() instead: %s", self.root, exc)
                self.files.unlink("current")  # it would be another snapshot

    def as_of(self, moment: datetime) -> Snapshot:
        """Return the snapshot that was current at a moment (with its zone).

        If it was swept, that is an UnreadableSnapshotError, which names the oldest that is kept.
        """
        published = [s for s in self.snapshots() if s.as_of is None]
        if not published:
            raise NoSnapshotError(self.root)
        if moment < (oldest := published[0]).created_at:
            problem = f"none is kept that was current then; the oldest is {oldest.id} of {oldest.created_at}"
            raise UnreadableSnapshotError(f"as of {moment}", problem)
        return [s for s in published if s.created_at <= moment][-1]

    def sweep(self, keep: int) -> None:
        """Keep the last snapshots, and as many of past states; delete others, and what killed runs left."""
        snapshots, keep = self.snapshots(), max(keep, 1)
        kept = [s for s in snapshots if s.as_of is not None][-keep:]
        kept += [s for s in snapshots if s.as_of is None][-keep:]
        with suppress(NoSnapshotError, UnreadableSnapshotError):  # the next materialization makes one
            kept.append(self.current())  # which may be older than those
        with self._translated():
            old = set(self._ids()) - {s.id for s in kept}
            self.files.delete(f"snapshots/{snapshot_id}.json" for snapshot_id in old)
            needed = {part.file for snapshot in kept for part in snapshot.parts}
            unneeded = [f"data/{n}" for n in self.files.names("data") if f"data/{n}" not in needed]
            unneeded += [n for n in self.files.names("") if n.endswith(".tmp")]
            unneeded += [f"snapshots/{n}" for n in self.files.names("snapshots") if n.endswith(".tmp")]
            unneeded += [f"{LINKS}/{n}" for n in self.files.names(LINKS) if n not in {s.id for s in kept}]
            self.files.delete(unneeded)

    @contextmanager
    def writer_lock(self) -> Iterator[None]:
        """Let one process write at a time, in a local folder; object stores have no such lock."""
        if not isinstance(self.files, LocalFiles):
            yield
            return
        lock = FileLock(self.files.root / ".lock")
        with self._translated():
            self.files.root.mkdir(parents=True, exist_ok=True)
            lock.acquire()
        try:
            yield
        finally:
            lock.release()

    @contextmanager
    def _translated(self) -> Iterator[None]:
        """Turn the file system's errors into ours."""
        try:
            yield
        except (OSError, ValueError, KeyError, TypeError) as exc:
            raise OfflineStoreError(f"offline store {self.root}: {exc}") from exc
