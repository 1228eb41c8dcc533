"""Backups of the MLflow that `make run` starts: its database and its artifacts, in one tar file."""

import shutil
import sqlite3
import tarfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path, PurePosixPath
from tempfile import TemporaryDirectory

from vroom_features.database.backup import checked_database, copy_database, copy_to_one_file, move_aside
from vroom_features.database.durable import replaced_whole
from vroom_features.errors import BackupError, DamagedDatabaseError

DATABASE, ARTIFACTS = "mlflow.db", "artifacts"


def back_up_mlflow(folder: Path | str, to: Path | str) -> None:
    """Write a backup of the MLflow in a folder, which may be in use; see `backup.back_up`."""
    folder, to = Path(folder), Path(to)
    if to.exists():
        raise BackupError(f"{to} exists already; give another name")
    with _translated(folder), replaced_whole(to) as new, TemporaryDirectory(dir=to.parent) as name:
        database = Path(name) / DATABASE
        copy_to_one_file(folder / DATABASE, database)
        with tarfile.open(new, "w") as tar:
            tar.add(database, DATABASE)
            _add(tar, folder / ARTIFACTS, ARTIFACTS)  # after the database, which names only those that exist
        with _unpacked(new):
            pass  # it can be read back


def refuse_loss(origin: Path | str, folder: Path | str, *, force: bool) -> None:
    """Raise BackupError where a backup is not whole or, without ``force``, would lose model versions."""
    origin, target = Path(origin), Path(folder, DATABASE)
    with _translated(target.parent), _unpacked(origin) as unpacked:
        kept = _versions(unpacked / DATABASE)
    if force or not target.exists():
        return
    try:
        lost = _versions(target) - kept
    except DamagedDatabaseError as exc:
        raise BackupError(f"{exc}; stop what uses it, then --force moves it aside") from exc
    if lost:
        raise BackupError(f"MLflow has {len(lost)} model versions that the backup lacks; --force loses them")


def restore_mlflow(origin: Path | str, folder: Path | str) -> None:
    """Restore a backup: the artifacts, then the database in one transaction.

    Artifacts that the backup lacks stay; a damaged database is moved aside.
    """
    origin, folder = Path(origin), Path(folder)
    target = folder / DATABASE
    with _translated(folder), _unpacked(origin) as unpacked:
        folder.mkdir(parents=True, exist_ok=True)
        if (unpacked / ARTIFACTS).is_dir():
            shutil.copytree(unpacked / ARTIFACTS, folder / ARTIFACTS, dirs_exist_ok=True)
        if target.exists():
            try:
                _versions(target)
            except DamagedDatabaseError:
                move_aside(target)
        copy_database(unpacked / DATABASE, target)


def _add(tar: tarfile.TarFile, path: Path, name: str) -> None:
    """Add a file or a folder with all that is in it; what is deleted meanwhile is left out."""
    with suppress(FileNotFoundError):
        tar.add(path, name, recursive=False)
        if path.is_dir():
            for each in sorted(path.iterdir()):
                _add(tar, each, f"{name}/{each.name}")


@contextmanager
def _translated(folder: Path) -> Iterator[None]:
    """Turn the errors of files and of SQLite into ours."""
    try:
        yield
    except (OSError, sqlite3.Error) as exc:
        raise BackupError(f"MLflow in {folder}: {exc}") from exc


@contextmanager
def _unpacked(origin: Path) -> Iterator[Path]:
    """Yield a folder with the content of a backup, its database checked."""
    with TemporaryDirectory() as name:  # the backup's own may be read-only
        try:
            with tarfile.open(origin) as tar:
                if foreign := [member.name for member in tar if not _is_plain(member)]:
                    raise tarfile.TarError(f"{foreign[0]} is not a plain file inside it")
                tar.extraction_filter = getattr(tarfile, "data_filter", None)  # from Python 3.11.4 on
                tar.extractall(name)  # noqa: S202 - checked above
        except (tarfile.TarError, OSError) as exc:
            raise BackupError(f"{origin} is no whole backup of MLflow: {exc}") from exc
        _versions(Path(name) / DATABASE)
        yield Path(name)


def _is_plain(member: tarfile.TarInfo) -> bool:
    path = PurePosixPath(member.name)
    return (member.isreg() or member.isdir()) and not path.is_absolute() and ".." not in path.parts


def _versions(database: Path) -> set[tuple[str, int, str]]:
    """Check a whole database of MLflow, and return its model versions."""
    with checked_database(database) as connection:
        return set(connection.execute("SELECT name, version, run_id FROM model_versions"))
