"""Files of the offline store: a local folder, or any fsspec URL."""

import os
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path, PurePosixPath
from typing import BinaryIO, Protocol, cast
from uuid import uuid4

from vroom_features.addresses import ENCODE, ServiceAddress
from vroom_features.errors import OfflineStoreError


class Files(Protocol):
    """A folder in which a file appears whole or not at all."""

    def read(self, name: str) -> bytes:
        """Return a file's content; FileNotFoundError when there is none."""

    def open(self, name: str) -> BinaryIO:
        """Open a file for reading."""

    def write(self, name: str, content: bytes) -> None:
        """Write a file so that every reader sees the old content or the new."""

    def names(self, folder: str) -> list[str]:
        """Return the sorted names of a folder's files; none when there is no folder."""

    def delete(self, names: Iterable[str]) -> None:
        """Delete files; those that are gone already are no error."""


class LocalFiles:
    """Files in a local folder."""

    def __init__(self, root: Path) -> None:
        self.root = root

    def read(self, name: str) -> bytes:
        """Return a file's content."""
        return (self.root / name).read_bytes()

    def open(self, name: str) -> BinaryIO:
        """Open a file for reading."""
        return (self.root / name).open("rb")

    def write(self, name: str, content: bytes) -> None:
        """Write aside, bring it to the disk, rename, and bring the rename to the disk."""
        path = self.root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        aside = path.with_name(f".{path.name}.{uuid4().hex}.tmp")
        try:
            with aside.open("wb") as file:
                file.write(content)
                file.flush()
                os.fsync(file.fileno())
            aside.replace(path)
        except BaseException:
            aside.unlink(missing_ok=True)
            raise
        folder = os.open(path.parent, os.O_RDONLY)
        try:
            os.fsync(folder)
        finally:
            os.close(folder)

    def names(self, folder: str) -> list[str]:
        """Return the sorted names of a folder's files."""
        path = self.root / folder
        return sorted(entry.name for entry in path.iterdir()) if path.is_dir() else []

    def delete(self, names: Iterable[str]) -> None:
        """Delete files."""
        for name in names:
            (self.root / name).unlink(missing_ok=True)


class RemoteFiles:
    """Files under an fsspec URL; object stores show an object whole or not at all."""

    def __init__(self, address: ServiceAddress) -> None:
        import fsspec  # noqa: PLC0415 - a local folder does not pay for it

        if address.is_unclear:
            raise OfflineStoreError(f"offline store {address}: an @ comes after the host; {ENCODE}")
        url, options = address.url, {}
        user, password = address.credentials or ("", "")
        if password:  # apart from the URL, which errors repeat; alone, a user may be a container of abfs
            names = ("key", "secret") if url.startswith("s3") else ("username", "password")
            url, options = str(address), dict(zip(names, (user, password), strict=True))
        try:
            self._filesystem, self._root = fsspec.url_to_fs(url, **options)
        except (ImportError, ValueError) as exc:  # its package is missing, or there is no such kind
            raise OfflineStoreError(f"offline store {address}: {exc}") from exc

    def _path(self, name: str) -> str:
        return str(PurePosixPath(self._root) / name)

    def read(self, name: str) -> bytes:
        """Return a file's content."""
        with _os_errors():
            return bytes(self._filesystem.cat_file(self._path(name)))

    def open(self, name: str) -> BinaryIO:
        """Open a file for reading."""
        with _os_errors():
            return cast("BinaryIO", self._filesystem.open(self._path(name), "rb"))

    def write(self, name: str, content: bytes) -> None:
        """Write an object."""
        path = self._path(name)
        with _os_errors():
            self._filesystem.makedirs(str(PurePosixPath(path).parent), exist_ok=True)
            self._filesystem.pipe_file(path, content)

    def names(self, folder: str) -> list[str]:
        """Return the sorted names of a folder's files."""
        path = self._path(folder)
        with _os_errors():
            self._filesystem.invalidate_cache()
            if not self._filesystem.isdir(path):
                return []
            return sorted(PurePosixPath(name).name for name in self._filesystem.ls(path, detail=False))

    def delete(self, names: Iterable[str]) -> None:
        """Delete files."""
        with _os_errors():
            for name in names:
                if self._filesystem.exists(self._path(name)):
                    self._filesystem.rm_file(self._path(name))


@contextmanager
def _os_errors() -> Iterator[None]:
    """Turn the errors that a file system's package has of its own into OSError."""
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
