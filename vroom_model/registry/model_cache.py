"""Model directories fetched from MLflow and kept on disk, every file with the checksum in the registry."""

import hashlib
import json
import re
import shutil
import tempfile
import time
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path
from typing import TypeVar

from vroom_model.errors import BrokenModelError, ModelNotFoundError, RegistryError
from vroom_model.manifest import MANIFEST_NAME, ModelManifest
from vroom_model.records import ChampionRef
from vroom_model.registry.mlflow_api import MlflowApi

Loaded = TypeVar("Loaded")
LAST_GOOD = "last_good.json"
NUM_CACHED_MAX = 8
LEFT_BEHIND_S = 3600.0
FOLDER = re.compile(r"\w[\w.-]*(/\w[\w.-]*)*", re.ASCII)
"""A path inside a run: not absolute, without `..`, not encoded."""


class ModelCache:
    """A folder of model directories, which the workers on one machine share."""

    def __init__(self, api: MlflowApi, cache_dir: Path | str) -> None:
        self._api = api
        self.cache_dir = Path(cache_dir)

    def fetch(self, ref: ChampionRef) -> Path:
        """Return the model directory of this version, downloaded and verified if it is not there.

        RegistryError if MLflow or the disk cannot be used; BrokenModelError if a file is missing or altered.
        """
        directory = self._directory(ref)
        if directory.is_dir():
            return directory
        try:
            self.cache_dir.mkdir(parents=True, exist_ok=True)
            with tempfile.TemporaryDirectory(prefix=".fetch-", dir=self.cache_dir) as name:
                aside = Path(name) / "bundle"
                aside.mkdir()
                content, manifest = fetch_manifest(self._api, ref)
                (aside / MANIFEST_NAME).write_bytes(content)
                for file in manifest.files:
                    (aside / file).write_bytes(_artifact(self._api, ref, file))
                ModelManifest.read(aside, sha256=ref.manifest_sha256)
                try:
                    aside.rename(directory)
                except OSError:
                    if not directory.is_dir():  # no other process was faster
                        raise
            self._prune(keep=directory)
        except OSError as exc:
            raise RegistryError(
                f"cannot keep model version {ref.version} in {self.cache_dir}: {exc.strerror}"
            ) from exc
        return directory

    def load(self, ref: ChampionRef, read: Callable[[Path], Loaded]) -> Loaded:
        """Fetch a version and return what ``read`` makes of its directory.

        A copy that cannot be used is discarded.  One that was kept may have been damaged on disk, and is
        downloaded again.
        """
        was_kept = self.is_kept(ref)
        directory = self.fetch(ref)
        try:
            return read(directory)
        except BrokenModelError:
            shutil.rmtree(directory, ignore_errors=True)
            if not was_kept:
                raise
            return self.load(ref, read)

    def is_kept(self, ref: ChampionRef) -> bool:
        """Return whether the files of this version are on disk; they may be damaged."""
        return self._directory(ref).is_dir()

    def remember(self, ref: ChampionRef) -> None:
        """Write to disk that this version serves, for a start while MLflow cannot be reached."""
        try:
            with tempfile.TemporaryDirectory(prefix=".last-", dir=self.cache_dir) as name:
                aside = Path(name) / LAST_GOOD
                aside.write_text(json.dumps(asdict(ref)))
                aside.replace(self.cache_dir / LAST_GOOD)
        except OSError as exc:
            raise RegistryError(
                f"cannot note in {self.cache_dir} which model serves: {exc.strerror}"
            ) from exc

    def last_good(self) -> ChampionRef | None:
        """Return the version that served last on this machine and is still on disk, or None."""
        try:
            ref = ChampionRef(**json.loads((self.cache_dir / LAST_GOOD).read_bytes()))
        except (OSError, ValueError, TypeError):
            return None
        return ref if self.is_kept(ref) else None

    def _directory(self, ref: ChampionRef) -> Path:
        identity = f"{ref.run_id}:{ref.bundle_path}:{ref.manifest_sha256}"
        return self.cache_dir / f"{ref.version}-{hashlib.sha256(identity.encode()).hexdigest()[:16]}"

    def _prune(self, *, keep: Path) -> None:
        """Delete all but the newest few models, and half fetched ones that killed processes left."""
        kept = {keep, *([self._directory(good)] if (good := self.last_good()) else [])}
        made = {path: path.stat().st_mtime for path in self.cache_dir.glob("*-*") if path.is_dir()}
        models = [path for path in made if path not in kept and not path.name.startswith(".")]
        models.sort(key=made.__getitem__, reverse=True)
        left_behind = [
            path for path in made if path.name.startswith(".") and time.time() - made[path] > LEFT_BEHIND_S
        ]
        for path in (*models[NUM_CACHED_MAX:], *left_behind):
            shutil.rmtree(path, ignore_errors=True)


def fetch_manifest(api: MlflowApi, ref: ChampionRef) -> tuple[bytes, ModelManifest]:
    """Return the manifest of a version as it is in MLflow, or BrokenModelError."""
    model = f"version {ref.version}"
    if not FOLDER.fullmatch(ref.bundle_path):
        raise BrokenModelError(model, f"bundle_path {ref.bundle_path[:80]!r} is outside the model's run")
    content = _artifact(api, ref, MANIFEST_NAME)
    return content, ModelManifest.parse(content, model=model, sha256=ref.manifest_sha256)


def _artifact(api: MlflowApi, ref: ChampionRef, name: str) -> bytes:
    try:
        return api.artifact(ref.run_id, ref.bundle_path, name)
    except ModelNotFoundError as exc:
        raise BrokenModelError(f"version {ref.version}", str(exc)) from exc
