"""MLflow's REST API over plain HTTP: the one door to it.

Importing mlflow costs seconds and a hundred megabytes, and brings pandas and scikit-learn along; a dozen of
its routes are all that is needed.
"""

import json
import time
from contextlib import suppress
from pathlib import Path
from typing import Any
from urllib.parse import quote, urlsplit

import httpx
from tenacity import retry, retry_if_exception_type, stop_after_attempt, wait_random

from vroom_features.addresses import ServiceAddress
from vroom_model.errors import (
    AlreadyRecordedError,
    ModelNotFoundError,
    RegistryError,
    WriteCollisionError,
)

API = "/api/2.0/mlflow"
ARTIFACTS = "/api/2.0/mlflow-artifacts/artifacts"
ANSWER_TIMEOUT_S = 30.0
ANSWER_MAX_BYTES = 256 * 1024 * 1024
COLLISIONS = frozenset({"BAD_REQUEST", "TEMPORARILY_UNAVAILABLE"})
"""What MLflow answers if its database refused: another inserted the same row first, or held the lock."""


class MlflowApi:
    """An MLflow server.

    Parameters
    ----------
    address : str or ServiceAddress
        Such as ``http://127.0.0.1:5000``.
    timeout_s : float
        How long it may be silent, per request.
    answer_timeout_s : float
        How long an answer may take altogether, however steadily it trickles in.
    """

    def __init__(
        self,
        address: str | ServiceAddress,
        *,
        timeout_s: float = 30.0,
        answer_timeout_s: float = ANSWER_TIMEOUT_S,
    ) -> None:
        self.address = ServiceAddress(address)
        self._answer_timeout_s = answer_timeout_s
        self._http = httpx.Client(
            base_url=str(self.address),  # httpx logs each URL and repeats it in errors
            auth=self.address.credentials,
            timeout=httpx.Timeout(timeout_s, connect=min(timeout_s / 3, 5.0)),
        )

    def close(self) -> None:
        """Close the connection."""
        self._http.close()

    def get(self, path: str, /, **params: str) -> dict[str, Any]:  # a parsed JSON object
        """Read; errors as ``post``, and ModelNotFoundError if it is not there."""
        return self._answer("GET", f"{API}/{path}", params=params)

    def post(self, path: str, body: object) -> dict[str, Any]:  # a parsed JSON object
        """Write.

        Raises
        ------
        AlreadyRecordedError
            If what is to be made is there already.
        RegistryError
            If MLflow cannot be reached or refuses.
        """
        return self._answer("POST", f"{API}/{path}", json=body)

    @retry(
        retry=retry_if_exception_type(WriteCollisionError),
        wait=wait_random(0, 0.2),
        stop=stop_after_attempt(8),
        reraise=True,
    )
    def put(self, path: str, body: object) -> None:
        """Write what may be written twice, a tag or an alias; if another's writing got in between, again.

        MLflow looks whether the row is there and then inserts it, so of two that write the same for the first
        time, one is refused.
        """
        self.post(path, body)

    def delete(self, path: str, body: object) -> None:
        """Delete; errors as ``post``, and ModelNotFoundError if it is not there."""
        self._answer("DELETE", f"{API}/{path}", json=body)

    def delete_artifacts(self, artifact_uri: str) -> None:
        """Delete a run's files, where they are MLflow's to delete; those that are gone are left at that."""
        place = urlsplit(artifact_uri)
        if place.scheme == "mlflow-artifacts" and not place.netloc:
            with suppress(ModelNotFoundError):
                self._answer("DELETE", f"{ARTIFACTS}{quote(place.path)}")

    def upload(self, artifact_uri: str, path: Path) -> None:
        """Store a file under a run's artifacts.

        Parameters
        ----------
        artifact_uri : str
            Folder, as MLflow named it when it made the run.
        path : Path
            The file; it keeps its name.
        """
        place = urlsplit(artifact_uri)
        if place.scheme != "mlflow-artifacts" or place.netloc:
            raise RegistryError(
                f"runs of this MLflow keep their files at {ServiceAddress(artifact_uri)}, out of reach: "
                f"let the server at {self.address} serve artifacts (--serve-artifacts, its default)"
            )
        self._answer("PUT", f"{ARTIFACTS}{quote(place.path)}/{path.name}", content=path.read_bytes())

    def artifact(self, run_id: str, folder: str, name: str) -> bytes:
        """Return a file of a run's artifacts; ModelNotFoundError if the file or the run is not there."""
        response, content = self._send(
            "GET", "/get-artifact", params={"run_id": run_id, "path": f"{folder}/{name}"}
        )
        if response.is_success:
            return content
        try:  # MLflow's answer does not tell a missing file from a fault
            listed = self.get("artifacts/list", run_id=run_id, path=folder).get("files", [])
        except ModelNotFoundError as exc:
            raise ModelNotFoundError(f"its run {run_id} is gone from MLflow") from exc
        if f"{folder}/{name}" not in {entry.get("path") for entry in listed}:
            raise ModelNotFoundError(f"{name} is missing in MLflow")
        raise RegistryError(f"MLflow answers {response.status_code} for {name} of run {run_id}")

    def _answer(self, method: str, url: str, **request: Any) -> dict[str, Any]:  # as httpx takes it
        response, content = self._send(method, url, **request)
        try:
            answer = json.loads(content) if content else {}  # as to an upload
        except ValueError as exc:
            raise RegistryError(f"MLflow at {self.address} cannot be used: {exc}") from exc
        if not isinstance(answer, dict):
            raise RegistryError(f"MLflow at {self.address} answers no JSON object: {str(answer)[:200]}")
        if response.is_success:
            return answer
        code, message = answer.get("error_code"), str(answer.get("message"))
        if code == "RESOURCE_DOES_NOT_EXIST" or (code == "INVALID_PARAMETER_VALUE" and "alias" in message):
            raise ModelNotFoundError(message)
        if code == "RESOURCE_ALREADY_EXISTS":
            raise AlreadyRecordedError(message)
        refusal = WriteCollisionError if code in COLLISIONS else RegistryError
        raise refusal(f"MLflow answers {response.status_code} {code}: {message}")

    def _send(
        self, method: str, url: str, **request: Any
    ) -> tuple[httpx.Response, bytes]:  # as httpx takes it
        """Return an answer with its content, which is given up when it is too long or takes too long."""
        until = time.monotonic() + self._answer_timeout_s
        content = bytearray()
        try:
            with self._http.stream(method, url, **request) as response:
                for chunk in response.iter_bytes():
                    content += chunk
                    if time.monotonic() > until:
                        raise RegistryError(
                            f"MLflow takes more than {self._answer_timeout_s:g} s for an answer"
                        )
                    if len(content) > ANSWER_MAX_BYTES:
                        raise RegistryError(f"MLflow sends more than {ANSWER_MAX_BYTES} bytes")
        except httpx.HTTPError as exc:
            raise RegistryError(
                f"MLflow at {self.address} cannot be used: {exc or type(exc).__name__}"
            ) from exc
        return response, bytes(content)
