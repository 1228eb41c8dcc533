"""Small disks to fill: a tmpfs where we are root, else a limit on the size of files."""

import ctypes
import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

_CLONE_NEWNS, _MS_REC, _MS_PRIVATE = 0x00020000, 0x4000, 1 << 18
SIZES_MB = {"db": 96, "offline": 32, "models": 32}


@dataclass(frozen=True)
class Disk:
    """A folder; ``is_small`` when it is a file system of its own."""

    path: Path
    is_small: bool

    @contextmanager
    def full(self) -> Iterator[None]:
        """Take all the room that is left, for the time of the block."""
        ballast = self.path / "ballast"
        try:
            with ballast.open("wb", buffering=0) as file:
                block = bytes(1 << 16)
                try:
                    while True:
                        if file.write(block) < len(block):
                            break
                except OSError:  # no room for a whole block
                    pass
                try:
                    while True:
                        file.write(b"\0" * 4096)
                except OSError:  # no room at all
                    pass
            yield
        finally:
            ballast.unlink(missing_ok=True)


@contextmanager
def small_disks(home: Path) -> Iterator[dict[str, Disk]]:
    """Make the folders; as root each on a tmpfs, in a mount namespace that ends with this process."""
    libc = ctypes.CDLL(None, use_errno=True)
    is_private = os.geteuid() == 0 and libc.unshare(_CLONE_NEWNS) == 0
    if is_private:
        is_private = libc.mount(None, b"/", None, _MS_REC | _MS_PRIVATE, None) == 0
    disks, mounted = {}, []
    try:
        for name, size in SIZES_MB.items():
            path = home / name
            path.mkdir()
            target = str(path).encode()
            is_small = (
                is_private
                and libc.mount(b"drill", target, b"tmpfs", 0, f"size={size}m,mode=700".encode()) == 0
            )
            if is_small:
                mounted.append(target)
            disks[name] = Disk(path, is_small)
        yield disks
    finally:
        for target in mounted:
            libc.umount2(target, 2)  # whoever still has it open keeps it
