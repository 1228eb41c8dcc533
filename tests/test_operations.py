"""A process is killed, or its operation fails, exactly where the test asks for it."""

import errno
import os
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


def test_a_process_is_killed_before_its_nth_operation_or_finishes(tmp_path: Path) -> None:
    for at, last in ((1, "write"), (2, "fsync"), (3, "rename")):
        assert operations.run(lambda: publish(tmp_path), at=at) == operations.Ended("killed", at, last)
        assert not (tmp_path / "published").exists()
        assert (tmp_path / "aside").stat().st_size == (0 if at == 1 else 5)
        (tmp_path / "aside").unlink()
    assert operations.run(lambda: publish(tmp_path), at=0) == operations.Ended("finished", 3, "rename")
    assert (tmp_path / "published").read_bytes() == b"whole"


def test_writes_fail_from_the_nth_on(tmp_path: Path) -> None:
    ended = operations.run(
        lambda: publish(tmp_path), at=2, error=errno.ENOSPC, only=operations.FILLS_THE_DISK
    )
    assert ended == operations.Ended("failed", 2, "fsync")
    assert not (tmp_path / "published").exists()


def test_an_unexpected_error_is_a_crash_and_not_a_failure(
    tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    assert operations.run(lambda: publish(tmp_path / "nowhere"), at=0).how == "crashed"
    assert "FileNotFoundError" in capfd.readouterr().err
