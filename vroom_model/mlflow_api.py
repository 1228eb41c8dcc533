"""MLflow's REST API over plain HTTP: the one door to it.

Importing mlflow costs seconds and a hundred megabytes, and brings pandas and scikit-learn along; a dozen of
its routes are all that is needed.
"""

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
    """

    def __init__(self, address: str | ServiceAddress, *, timeout_s: float = 30.0) -> None:
        self.address = ServiceAddress(address)
        self._http = httpx.Client(
            base_url=str(self.address),  # httpx logs each URL and repeats it in errors
            auth=self.address.credentials,
            timeout=httpx.Timeout(timeout_s, connect=5.0),
        )

    def close(self) -> None:
        """Close the connection."""
        self._http.close()

    def get(self, path: str, **params: str) -> dict[str, Any]:  # a parsed JSON object
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

    def _answer(self, method: str, url: str, **request: Any) -> dict[str, Any]:  # as httpx takes it
        try:
            response = self._http.request(method, url, **request)
            answer = response.json() if response.content else {}  # as to an upload
        except (httpx.HTTPError, ValueError) as exc:
            raise RegistryError(
                f"MLflow at {self.address} cannot be used: {exc or type(exc).__name__}"
            ) from exc
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
