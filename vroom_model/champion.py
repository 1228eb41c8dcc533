"""How a server learns which model is champion and gets its files: MLflow's REST API, over plain HTTP.

Importing mlflow costs a web worker three seconds and 190 MB; two GET requests cost nothing.
"""

import hashlib
import json
import re
import shutil
import tempfile
import time
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import httpx
from pydantic import ValidationError

from vroom_features.addresses import ServiceAddress
from vroom_model.errors import BrokenModelError, RegistryError
from vroom_model.manifest import MANIFEST_NAME, ModelManifest

ALIAS = "champion"
LAST_GOOD = "last_good.json"
FILE_MAX_BYTES = 256 * 1024 * 1024
NUM_CACHED_MAX = 8
ANSWER_TIMEOUT_S = 30.0
LEFT_BEHIND_S = 3600.0
FOLDER = re.compile(r"\w[\w.-]*(/\w[\w.-]*)*", re.ASCII)
"""A path inside a run: neither absolute, nor up, nor encoded."""


@dataclass(frozen=True, slots=True)
class ChampionRef:
    """Which model version is champion, and what its manifest must hash to."""

    version: int
    run_id: str
    manifest_sha256: str
    bundle_path: str


class ChampionSource:
    """Read the champion alias and fetch its files.

    Parameters
    ----------
    address : str or ServiceAddress
        Of the MLflow server.
    model_name : str
        Registered model.
    cache_dir : Path
        Folder for fetched models; workers on one machine share it.
    timeout_s : float
        How long the server may be silent, per request.
    answer_timeout_s : float
        How long an answer may take altogether, however steadily it trickles in.
    """

    def __init__(
        self,
        address: str | ServiceAddress,
        model_name: str,
        *,
        cache_dir: Path,
        timeout_s: float = 3.0,
        answer_timeout_s: float = ANSWER_TIMEOUT_S,
    ) -> None:
        self.model_name = model_name
        self.cache_dir = cache_dir
        self._answer_timeout_s = answer_timeout_s
        address = ServiceAddress(address)
        self._http = httpx.Client(
            base_url=str(address),  # httpx logs each URL and repeats it in errors
            auth=address.credentials,
            timeout=httpx.Timeout(timeout_s, connect=1.0),
            follow_redirects=False,
        )

    def current(self) -> ChampionRef | None:
        """Return the champion, or None if there is none.

        Raises
        ------
        RegistryError
            If the registry cannot be asked, or answers what cannot be understood.
        """
        url = "/api/2.0/mlflow/registered-models/alias"
        response = self._get(url, name=self.model_name, alias=ALIAS)
        if response.status_code in {400, 404} and _is_absent(response):
            return None
        try:
            response.raise_for_status()
            version = response.json()["model_version"]
            tags = {tag["key"]: tag["value"] for tag in version.get("tags", [])}
            return ChampionRef(
                version=int(version["version"]),
                run_id=str(version["run_id"]),
                manifest_sha256=tags["manifest_sha256"],
                bundle_path=tags.get("bundle_path", "bundle"),
            )
        except (httpx.HTTPStatusError, KeyError, TypeError, ValueError) as exc:
            raise RegistryError(f"MLflow's answer is not a model version with its tags: {exc!r}") from exc

    def fetch(self, ref: ChampionRef) -> Path:
        """Return a folder with the files of this version, every one with the checksum it must have.

        Raises
        ------
        RegistryError
            If MLflow does not hand the files out, or they cannot be stored.
        BrokenModelError
            If a file is not what the registry says.
        """
        directory = self._directory(ref)
        if directory.is_dir():
            return directory
        try:
            self.cache_dir.mkdir(parents=True, exist_ok=True)
            with tempfile.TemporaryDirectory(prefix=".fetch-", dir=self.cache_dir) as name:
                aside = Path(name) / "bundle"
                aside.mkdir()
                self._download(ref, aside)
                _rename(aside, directory)
            self._prune(keep=directory)
        except OSError as exc:
            raise RegistryError(
                f"cannot keep model version {ref.version} in {self.cache_dir}: {exc.strerror}"
            ) from exc
        return directory

    def is_kept(self, ref: ChampionRef) -> bool:
        """Tell whether this version's files are on disk, sound or not."""
        return self._directory(ref).is_dir()

    def discard(self, ref: ChampionRef) -> None:
        """Forget the files of a version, so that the next fetch downloads them again."""
        shutil.rmtree(self._directory(ref), ignore_errors=True)

    def remember(self, ref: ChampionRef) -> None:
        """Note on disk that this version serves, for a start while MLflow is away.

        Raises
        ------
        RegistryError
            If the disk does not take it.
        """
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

    def close(self) -> None:
        """Close the connection."""
        self._http.close()

    def _directory(self, ref: ChampionRef) -> Path:
        identity = f"{ref.run_id}:{ref.bundle_path}:{ref.manifest_sha256}"
        return self.cache_dir / f"{ref.version}-{hashlib.sha256(identity.encode()).hexdigest()[:16]}"

    def _download(self, ref: ChampionRef, directory: Path) -> None:
        """Fetch the manifest, then what it lists; nothing is written that the manifest does not vouch for."""
        if not FOLDER.fullmatch(ref.bundle_path):
            raise BrokenModelError(directory, f"bundle_path {ref.bundle_path[:80]!r} leaves the model's run")
        content = self._artifact(ref, MANIFEST_NAME)
        if hashlib.sha256(content).hexdigest() != ref.manifest_sha256:
            problem = f"{MANIFEST_NAME} in MLflow differs from the checksum in the registry"
            raise BrokenModelError(directory, problem)
        (directory / MANIFEST_NAME).write_bytes(content)
        try:
            files = ModelManifest.model_validate_json(content).files
        except ValidationError as exc:
            raise BrokenModelError(directory, f"{MANIFEST_NAME} has {exc.error_count()} errors") from exc
        for name in files:
            if Path(name).name != name:
                raise BrokenModelError(directory, f"file name {name!r} leaves the directory")
            (directory / name).write_bytes(self._artifact(ref, name))
        ModelManifest.read(directory, sha256=ref.manifest_sha256)

    def _artifact(self, ref: ChampionRef, name: str) -> bytes:
        response = self._get("/get-artifact", run_id=ref.run_id, path=f"{ref.bundle_path}/{name}")
        if response.status_code != httpx.codes.OK:
            if name not in self._names(ref):  # MLflow's own answer does not tell a missing file from a fault
                raise BrokenModelError(Path(f"version {ref.version}"), f"{name} is missing in MLflow")
            raise RegistryError(f"MLflow answers {response.status_code} for {name} of version {ref.version}")
        return response.content

    def _names(self, ref: ChampionRef) -> set[str]:
        """Return the names of a version's files in MLflow."""
        response = self._get("/api/2.0/mlflow/artifacts/list", run_id=ref.run_id, path=ref.bundle_path)
        if _is_absent(response):
            raise BrokenModelError(
                Path(f"version {ref.version}"), f"its run {ref.run_id} is gone from MLflow"
            )
        try:
            response.raise_for_status()
            return {Path(entry["path"]).name for entry in response.json().get("files", [])}
        except (httpx.HTTPStatusError, KeyError, TypeError, ValueError) as exc:
            raise RegistryError(f"MLflow does not list the files of version {ref.version}: {exc!r}") from exc

    def _get(self, url: str, **params: str) -> httpx.Response:
        until = time.monotonic() + self._answer_timeout_s
        try:
            with self._http.stream("GET", url, params=params) as response:
                content = bytearray()
                for chunk in response.iter_bytes():
                    content += chunk
                    if time.monotonic() > until:
                        raise RegistryError(
                            f"MLflow takes more than {self._answer_timeout_s:g} s for an answer"
                        )
                    if len(content) > FILE_MAX_BYTES:
                        raise RegistryError(f"MLflow sends more than {FILE_MAX_BYTES} bytes")
        except httpx.HTTPError as exc:
            raise RegistryError(f"MLflow cannot be reached: {exc or type(exc).__name__}") from exc
        return httpx.Response(response.status_code, content=bytes(content), request=response.request)

    def _prune(self, *, keep: Path) -> None:
        """Keep the newest few models on disk, and clear what killed processes left half fetched."""
        kept = {keep, *([self._directory(good)] if (good := self.last_good()) else [])}
        made = {path: path.stat().st_mtime for path in self.cache_dir.glob("*-*") if path.is_dir()}
        models = [path for path in made if path not in kept and not path.name.startswith(".")]
        models.sort(key=made.__getitem__, reverse=True)
        left_behind = [
            path for path in made if path.name.startswith(".") and time.time() - made[path] > LEFT_BEHIND_S
        ]
        for path in (*models[NUM_CACHED_MAX:], *left_behind):
            shutil.rmtree(path, ignore_errors=True)


def _is_absent(response: httpx.Response) -> bool:
    """Tell MLflow's "no such model or alias" from any other refusal."""
    try:
        error: Any = response.json()
    except ValueError:
        return False
    code, message = error.get("error_code"), str(error.get("message"))
    return code == "RESOURCE_DOES_NOT_EXIST" or (code == "INVALID_PARAMETER_VALUE" and "alias" in message)


def _rename(aside: Path, directory: Path) -> None:
    """Move a whole folder into place; another process may have been faster."""
    try:
        aside.rename(directory)
    except OSError:
        if not directory.is_dir():
            raise
