"""MLflow's REST API over plain HTTP.

Web workers and promotion use it.  Importing MLflow's client takes up to 4.5 s and 186 MB, and only a dozen
routes are needed; training alone records with the client.
"""

import json
import time
from contextlib import suppress
from typing import Any
from urllib.parse import quote, urlsplit

import httpx
from tenacity import retry, retry_if_exception_type, stop_after_attempt, wait_random

from vroom_features.addresses import ServiceAddress, mlflow_headers, refusal
from vroom_model.errors import AlreadyExistsError, ModelNotFoundError, RegistryError, WriteCollisionError

API = "/api/2.0/mlflow"
ARTIFACTS = "/api/2.0/mlflow-artifacts/artifacts"
ANSWER_TIMEOUT_S = 30.0
"""For the whole of it, however it trickles in."""
ANSWER_MAX_BYTES = 256 * 1024 * 1024
COLLISIONS = frozenset({"BAD_REQUEST", "TEMPORARILY_UNAVAILABLE"})
"""Error codes if MLflow's database refused a write: another inserted the row first, or has the lock."""


class MlflowApi:
    """An MLflow server; ``timeout_s`` is its longest silence."""

    def __init__(self, address: str | ServiceAddress, *, timeout_s: float = 30.0) -> None:
        self.address = ServiceAddress(address)
        self._http = httpx.Client(
            base_url=str(self.address),  # httpx logs each URL and repeats it in errors
            headers=mlflow_headers(self.address),
            timeout=httpx.Timeout(timeout_s, connect=min(timeout_s / 3, 5.0)),
        )

    def close(self) -> None:
        """Close the connection."""
        self._http.close()

    def get(self, path: str, /, **params: str) -> dict[str, Any]:  # a parsed JSON object
        """Send a GET request; errors as ``post``, and ModelNotFoundError."""
        return self._answer("GET", f"{API}/{path}", params=params)

    def post(self, path: str, body: object) -> dict[str, Any]:  # a parsed JSON object
        """Send a POST request; AlreadyExistsError, or RegistryError if MLflow is away or refuses."""
        return self._answer("POST", f"{API}/{path}", json=body)

    @retry(
        retry=retry_if_exception_type(WriteCollisionError),
        wait=wait_random(0, 0.2),
        stop=stop_after_attempt(8),
        reraise=True,
    )
    def put(self, path: str, body: object) -> None:
        """Send a POST request that may be repeated, such as for a tag or an alias, until it succeeds.

        MLflow checks whether a row exists and then inserts it, so one of two concurrent writers is refused.
        """
        self.post(path, body)

    def delete(self, path: str, body: object) -> None:
        """Send a DELETE request; errors as ``post``, and ModelNotFoundError."""
        self._answer("DELETE", f"{API}/{path}", json=body)

    def delete_artifacts(self, artifact_uri: str) -> None:
        """Delete files that MLflow's server keeps, of a run or a logged model; missing ones are no error."""
        place = urlsplit(artifact_uri)
        if place.scheme == "mlflow-artifacts" and not place.netloc:
            with suppress(ModelNotFoundError):
                self._answer("DELETE", f"{ARTIFACTS}{quote(place.path)}")

    def artifact(self, run_id: str, folder: str, name: str) -> bytes:
        """Return a file of a run's artifacts; ModelNotFoundError without such a file or run."""
        response, content = self._send(
            "GET", "/get-artifact", params={"run_id": run_id, "path": f"{folder}/{name}"}
        )
        if response.is_success:
            return content
        try:  # MLflow answers the same to a missing file and to a fault
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
            raise RegistryError(
                f"MLflow at {self.address} answers {response.status_code} and no JSON"
            ) from exc
        if not isinstance(answer, dict):
            raise RegistryError(f"MLflow at {self.address} answers no JSON object: {str(answer)[:200]}")
        if response.is_success:
            return answer
        code, message = answer.get("error_code"), str(answer.get("message"))
        if code == "RESOURCE_DOES_NOT_EXIST" or (code == "INVALID_PARAMETER_VALUE" and "alias" in message):
            raise ModelNotFoundError(message)
        if code == "RESOURCE_ALREADY_EXISTS":
            raise AlreadyExistsError(message)
        refusal = WriteCollisionError if code in COLLISIONS else RegistryError
        raise refusal(f"MLflow answers {response.status_code} {code}: {message}")

    def _send(self, method: str, url: str, **request: Any) -> tuple[httpx.Response, bytes]:  # as httpx
        """Return an answer and its content; RegistryError if it is too long or takes too long."""
        until = time.monotonic() + ANSWER_TIMEOUT_S
        content = bytearray()
        try:
            with self._http.stream(method, url, **request) as response:
                for chunk in response.iter_bytes():
                    content += chunk
                    if time.monotonic() > until:
                        raise RegistryError(f"MLflow takes more than {ANSWER_TIMEOUT_S:g} s for an answer")
                    if len(content) > ANSWER_MAX_BYTES:
                        raise RegistryError(f"MLflow sends more than {ANSWER_MAX_BYTES} bytes")
        except httpx.HTTPError as exc:
            raise RegistryError(
                f"MLflow at {self.address} cannot be used: {exc or type(exc).__name__}"
            ) from exc
        if problem := refusal("MLflow", response.status_code, bytes(content)):
            raise RegistryError(problem)
        return response, bytes(content)
