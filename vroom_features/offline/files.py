"""Files of the offline store (a local folder, or any fsspec URL), and the manifest of a snapshot.

Both are light: a web worker reads manifests without pyarrow.
"""

import json
import re
import shutil
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from datetime import date
from pathlib import Path, PurePosixPath
from typing import Any, ClassVar, Literal, Self
from uuid import uuid4

import fsspec
from pydantic import AwareDatetime, ConfigDict, TypeAdapter, ValidationError

from vroom_features.addresses import ENCODE, ServiceAddress
from vroom_features.database.durable import replaced_whole
from vroom_features.errors import OfflineStoreError, UnreadableSnapshotError
from vroom_features.view import VEHICLE_VIEW
from vroom_features.watch import RecentBookings, Watch


class LocalFiles:
    """Files in a local folder; each appears whole or not at all."""

    def __init__(self, root: Path) -> None:
        self.root = root

    def read(self, name: str) -> bytes:
        return (self.root / name).read_bytes()

    def write(self, name: str, content: bytes) -> None:
        with replaced_whole(self.root / name, mode=0o666) as new:  # the umask decides
            new.write_bytes(content)

    def names(self, folder: str) -> list[str]:
        """Return the sorted names of a folder's files; none when there is no folder."""
        path = self.root / folder
        return sorted(entry.name for entry in path.iterdir()) if path.is_dir() else []

    def path(self, name: str) -> str:
        """Return where another program finds a file."""
        return str((self.root / name).resolve())

    def delete(self, names: Iterable[str]) -> None:
        for name in names:
            path = self.root / name
            if path.is_dir() and not path.is_symlink():
                shutil.rmtree(path)
            path.unlink(missing_ok=True)

    def link(self, name: str, folder: str, files: Iterable[str]) -> None:
        """Make a folder of links to files, and put a link of this name to it in place of another at once."""
        target, aside = self.root / folder, self.root / f".{name}.{uuid4().hex}.tmp"
        target.mkdir(parents=True, exist_ok=True)
        up = PurePosixPath(*[".."] * len(PurePosixPath(folder).parts))
        for file in files:
            with suppress(FileExistsError):
                (target / PurePosixPath(file).name).symlink_to(up / file)
        aside.symlink_to(folder, target_is_directory=True)
        aside.replace(self.root / name)

    def unlink(self, name: str) -> None:
        """Remove a link, if it is one."""
        if (self.root / name).is_symlink():
            (self.root / name).unlink()


class RemoteFiles:
    """Files under an fsspec URL; object stores show an object whole or not at all."""

    def __init__(self, address: ServiceAddress) -> None:
        if address.is_unclear:
            raise OfflineStoreError(f"offline store {address}: an @ comes after the host; {ENCODE}")
        url, options = address.url, {}
        user, password = address.credentials or ("", "")
        if password:  # not in the URL, which errors repeat; a user alone may be a container of abfs
            names = ("key", "secret") if url.startswith("s3") else ("username", "password")
            url, options = str(address), dict(zip(names, (user, password), strict=True))
        try:
            self._filesystem, self._root = fsspec.url_to_fs(url, **options)
        except (ImportError, ValueError) as exc:  # its package is missing, or there is no such kind
            raise OfflineStoreError(f"offline store {address}: {exc}") from exc

    def _path(self, name: str) -> str:
        return str(PurePosixPath(self._root) / name)

    def read(self, name: str) -> bytes:
        with _os_errors():
            return bytes(self._filesystem.cat_file(self._path(name)))

    def write(self, name: str, content: bytes) -> None:
        path = self._path(name)
        with _os_errors():
            self._filesystem.makedirs(str(PurePosixPath(path).parent), exist_ok=True)
            self._filesystem.pipe_file(path, content)

    def names(self, folder: str) -> list[str]:
        path = self._path(folder)
        with _os_errors():
            self._filesystem.invalidate_cache()
            if not self._filesystem.isdir(path):
                return []
            return sorted(PurePosixPath(name).name for name in self._filesystem.ls(path, detail=False))

    def path(self, name: str) -> str:
        return str(self._filesystem.unstrip_protocol(self._path(name)))

    def delete(self, names: Iterable[str]) -> None:
        with _os_errors():
            for name in names:
                if self._filesystem.exists(self._path(name)):
                    self._filesystem.rm_file(self._path(name))


Files = LocalFiles | RemoteFiles


def checked_id(snapshot_id: str) -> str:
    """Return a snapshot's id; ValueError if it cannot be one."""
    if re.fullmatch(r"[\w-]{1,100}", snapshot_id, re.ASCII) is None:
        raise ValueError(f"expected a snapshot's id, got {snapshot_id!r}")
    return snapshot_id


def current_id(files: Files) -> str:
    """Return the id of the latest snapshot; FileNotFoundError if nothing was materialized yet."""
    content = files.read("current.json")
    try:
        return checked_id(json.loads(content)["snapshot"])
    except (KeyError, TypeError, ValueError) as exc:
        raise UnreadableSnapshotError("current", f"current.json does not name it: {exc!r}") from exc


@dataclass(frozen=True)
class MemoryFiles:
    """Files of a snapshot that is in no store."""

    contents: Mapping[str, bytes]

    def read(self, name: str) -> bytes:
        return self.contents[name]

    def path(self, name: str) -> str:
        raise OfflineStoreError(f"{name} is in memory alone; a snapshot of a store has paths")


@contextmanager
def _os_errors() -> Iterator[None]:
    """Turn the own errors of a file system's package into OSError."""
    try:
        yield
    except OSError:
        raise
    except Exception as exc:
        raise OSError(str(exc)) from exc


def files_at(root: ServiceAddress) -> Files:
    """Return the files of a folder or URL."""
    if root.url.startswith("file://"):
        return LocalFiles(Path(root.url.removeprefix("file://")))
    return RemoteFiles(root) if "://" in root.url else LocalFiles(Path(root.url))


@dataclass(frozen=True)
class Part:
    """The fleet vehicles of one range of ids, ``low`` to ``high``, both included.

    ``sums`` are the checksum of the rows; a snapshot's digest is made of their totals.  ``num_vehicles``
    counts the range's new arrivals too, ``num_labels`` the rows with a training label.
    """

    low: int
    high: int
    num_vehicles: int
    num_rows: int
    num_labels: int
    sums: tuple[int, int]
    file: str
    sha256: str


@dataclass(frozen=True, kw_only=True)
class Manifest:
    """One state of the fleet.

    ``digest`` depends on the rows, the view and ``watch_days`` only, not on the partitions, the engine or the
    day.  ``database_id`` and ``change_number`` identify the state of the database that it was made from.
    ``watch_days`` and ``complete_through`` are its watch, None while no booking is known; the numbers booked
    are its ``recent`` bookings.  ``as_of`` is set where it is a past state: what was saved, held and booked
    before that moment.  ``format`` is the version of the manifest's shape.
    """

    __pydantic_config__: ClassVar = ConfigDict(strict=True, extra="forbid")
    format: Literal[2] = 2
    id: str
    num_rows: int
    digest: str
    created_at: AwareDatetime
    source: str
    database_id: str
    change_number: int
    view_name: str = VEHICLE_VIEW.name
    view_version: int = VEHICLE_VIEW.version
    columns: tuple[str, ...] = VEHICLE_VIEW.columns
    watch_days: int | None = None
    complete_through: date | None = None
    num_booked_last: int | None = None
    num_booked_before: int | None = None
    as_of: AwareDatetime | None = None
    parts: tuple[Part, ...]

    @property
    def is_of_view(self) -> bool:
        """Whether it has the features of this program's view."""
        view = (VEHICLE_VIEW.name, VEHICLE_VIEW.version, VEHICLE_VIEW.columns)
        return (self.view_name, self.view_version, self.columns) == view

    @property
    def watch(self) -> Watch | None:
        return Watch.known(self.watch_days, self.complete_through)

    @property
    def recent(self) -> RecentBookings | None:
        """What was booked lately, to see whether bookings are lost; None where it was not counted."""
        if self.num_booked_last is None or self.num_booked_before is None:
            return None
        return RecentBookings(self.num_booked_last, self.num_booked_before)

    @property
    def num_labels(self) -> int:
        """Rows with a training label."""
        return sum(part.num_labels for part in self.parts)

    def to_json(self) -> bytes:
        return _MANIFEST.dump_json(self, indent=1)

    @classmethod
    def from_json(cls, snapshot_id: str, content: bytes, **more: Any) -> Self:  # fields of a subclass
        """Read a manifest; UnreadableSnapshotError if it is damaged or of another release."""
        try:
            found = _MANIFEST.validate_json(content)
        except ValidationError as exc:
            first = exc.errors(include_url=False)[0]
            where = ".".join(map(str, first["loc"])) or "manifest"
            raise UnreadableSnapshotError(snapshot_id, f"{where}: {first['msg']}") from exc
        if found.id != snapshot_id:
            raise UnreadableSnapshotError(snapshot_id, f"its manifest is of {found.id!r}")
        return cls(**vars(found), **more)


_MANIFEST = TypeAdapter(Manifest)
