"""CSV files on the disk: found, unzipped, hashed while they are read."""

import gzip
import hashlib
import io
import os
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from vroom_features.errors import DataContractError

BinaryFile = io.BufferedReader | gzip.GzipFile | io.BytesIO

UNZIPPED_RATIO_MAX = 200
"""How many times its size a gzipped CSV may unpack to: real ones reach 20, a bomb 1,000."""
UNZIPPED_ALWAYS_BYTES = 64 * 1024 * 1024
"""What any gzipped CSV may unpack to."""


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


class ContentReader(io.RawIOBase):
    """A file whose SHA-256 is taken as it is read."""

    def __init__(self, file: BinaryFile) -> None:
        self._file = file
        self.sha256 = hashlib.sha256()
        self.num_bytes = 0

    def readable(self) -> bool:
        """Say yes."""
        return True

    def readinto(self, buffer: Any) -> int:  # whatever Python can write into
        """Read the next bytes."""
        content = self._file.read(len(buffer))
        buffer[: len(content)] = content
        self.sha256.update(content)
        self.num_bytes += len(content)
        return len(content)

    def lines(self) -> io.TextIOWrapper:
        """Return the text, whose lines keep the line ends that they have: LF, CR LF or CR."""
        return io.TextIOWrapper(io.BufferedReader(self), "utf-8-sig", errors="replace", newline="")
