"""CSV files on the disk: found, unzipped, hashed while they are read."""

import gzip
import hashlib
import io
import os
import threading
import weakref
import zlib
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
import numpy.typing as npt

from vroom_features.errors import DataContractError

Array = npt.NDArray[Any]
BinaryFile = io.BufferedReader | gzip.GzipFile | io.BytesIO
Object = TypeVar("Object")

UNZIPPED_RATIO_MAX = 200
"""How many times its size a gzipped CSV may unpack to: real ones reach 20, a bomb 1,000."""
UNZIPPED_ALWAYS_BYTES = 64 * 1024 * 1024
"""What any gzipped CSV may unpack to."""
LET_GO_TIMEOUT_S = 60


def find_csv(folder: Path, name: str) -> Path:
    """Return where a CSV is, plain or gzipped.

    Raises
    ------
    DataContractError
        If it is neither there, or the folder cannot be looked into.
    """
    try:
        for path in (folder / name, folder / f"{name}.gz"):
            if path.is_dir():
                raise DataContractError(f"expected a file, {path} is a directory")
            if path.is_file():
                return path
    except OSError as exc:
        raise DataContractError(f"{folder / name} cannot be looked for: {exc}") from exc
    raise DataContractError(f"{folder / name} is missing; expected {name} or {name}.gz in {folder}")


def file_sha256(path: Path) -> str:
    """Return the SHA-256 of a file's content, unzipped."""
    with opened(path) as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


@contextmanager
def opened(path: Path) -> Iterator[BinaryFile]:
    """Open a file, unzipping it when its first bytes say so."""
    try:
        with path.open("rb") as file:
            if file.peek(2)[:2] == b"\x1f\x8b":
                with Unzipped(path, file) as unzipped:
                    yield unzipped
            else:
                yield file
    except (OSError, EOFError, zlib.error) as exc:
        raise DataContractError(f"{path} cannot be read: {exc}") from exc


class Unzipped(gzip.GzipFile):
    """A gzipped file that is given up when it unpacks to more than a CSV of its size could hold."""

    def __init__(self, path: Path, file: io.BufferedReader) -> None:
        super().__init__(fileobj=file)
        self._path = path
        self._max_bytes = max(UNZIPPED_ALWAYS_BYTES, UNZIPPED_RATIO_MAX * os.fstat(file.fileno()).st_size)

    def read(self, size: int | None = -1) -> bytes:
        """Read, within the limit."""
        return self._bounded(super().read(size))

    def read1(self, size: int = -1) -> bytes:
        """Read what is there, within the limit."""
        return self._bounded(super().read1(size))

    def _bounded(self, content: bytes) -> bytes:
        if self.tell() > self._max_bytes:
            raise DataContractError(
                f"{self._path} unpacks to more than {self._max_bytes:,} bytes, {UNZIPPED_RATIO_MAX} times its"
                " size, as no CSV of a fleet does; if this one is real, give it unpacked"
            )
        return content


class Growing:
    """A column that grows in place, where joining its parts at the end would hold everything twice."""

    def __init__(self, kind: type[np.generic]) -> None:
        self._values: Array = np.empty(1 << 16, kind)
        self._size = 0

    def append(self, values: Array) -> None:
        """Add values."""
        end = self._size + len(values)
        if end > len(self._values):
            self._values.resize(max(end, 2 * len(self._values)), refcheck=False)
        self._values[self._size : end] = values
        self._size = end

    def done(self) -> Array:
        """Return the column, no longer than it is full."""
        self._values.resize(self._size, refcheck=False)
        return self._values


class Content:
    """What a whole file's bytes come to, a block at a time: their SHA-256, and lines that are not blank."""

    def __init__(self) -> None:
        self._sha256 = hashlib.sha256()
        self._after_end = True
        self.num_lines = 0

    def update(self, block: bytes) -> None:
        """Take the next block."""
        self._sha256.update(block)
        if not block:
            return
        codes = np.frombuffer(block, np.uint8)
        is_end = (codes == ord("\n")) | (codes == ord("\r"))
        self.num_lines += int(np.count_nonzero(is_end[:-1] > is_end[1:])) + int(self._after_end > is_end[0])
        self._after_end = bool(is_end[-1])

    @property
    def sha256(self) -> str:
        """The digest so far, in hexadecimal."""
        return self._sha256.hexdigest()


class ContentReader(io.RawIOBase):
    """A file whose content is noted, and its progress told, as it is read."""

    def __init__(self, file: BinaryFile, content: Content, progress: Callable[[int], None] | None) -> None:
        self._file = file
        self._content = content
        self._progress = progress

    def readable(self) -> bool:
        """Say yes."""
        return True

    def read(self, size: int = -1) -> bytes:
        """Read and note."""
        block = self._file.read(size)
        self._content.update(block)
        if self._progress is not None:
            self._progress(len(block))
        return block


class Lent:
    """Objects that threads of Arrow use, and a way to wait until they have let go of them.

    Arrow reads ahead in a thread, which may drop the last reference to a file or a handler a moment after
    its reader is gone.  When the interpreter ends in this moment it ends that thread too, in the middle of
    C++, and the process with it: SIGABRT instead of its exit code.
    """

    def __init__(self) -> None:
        self._lent: list[tuple[weakref.ref[Any], threading.Event]] = []

    def __call__(self, lent: Object) -> Object:
        """Note an object that nobody else will hold, and return it."""
        gone = threading.Event()
        self._lent.append((weakref.ref(lent, lambda _: gone.set()), gone))
        return lent

    def wait(self) -> None:
        """Wait until all of them are gone."""
        for _, gone in self._lent:
            gone.wait(LET_GO_TIMEOUT_S)
