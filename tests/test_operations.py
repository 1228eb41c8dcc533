import errno
import os
import subprocess
from pathlib import Path

import pytest

from tests import operations

pytestmark = pytest.mark.skipif(not operations.is_supported(), reason="operations are not counted here")


def publish(folder: Path) -> bool:
    """Write to another name, sync, and rename: three operations."""
    aside = folder / "aside"
    file = os.open(aside, os.O_CREAT | os.O_WRONLY)
    try:
        os.write(file, b"whole")
        os.fsync(file)
        aside.replace(folder / "published")
    except OSError:
        return False
    finally:
        os.close(file)
    return True


def test_a_process_ends_at_its_nth_operation_by_itself_or_by_an_error(
    tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    for at, last in ((1, "write"), (2, "fsync"), (3, "rename")):
        assert operations.run(lambda: publish(tmp_path), at=at) == operations.Ended("killed", at, last)
        assert not (tmp_path / "published").exists()
        assert (tmp_path / "aside").stat().st_size == (0 if at == 1 else 5)
        (tmp_path / "aside").unlink()
    only = operations.FILLS_THE_DISK
    ended = operations.run(lambda: publish(tmp_path), at=2, error=errno.ENOSPC, only=only)
    assert (ended, (tmp_path / "published").exists()) == (operations.Ended("failed", 2, "fsync"), False)
    assert operations.run(lambda: publish(tmp_path), at=0) == operations.Ended("finished", 3, "rename")
    assert (tmp_path / "published").read_bytes() == b"whole"
    assert operations.run(lambda: publish(tmp_path / "nowhere"), at=0).how == "crashed"
    assert "FileNotFoundError" in capfd.readouterr().err


def test_a_program_that_the_process_started_ends_with_it(tmp_path: Path) -> None:
    def copy() -> bool:
        return subprocess.run(["tee", tmp_path / "copy"], input=b"text", check=False).returncode == 0

    assert operations.run(copy, at=2) == operations.Ended("killed", 2, "write")  # the first one is ours
    assert (tmp_path / "copy").read_bytes() == b""
