"""Starting flow runs: Prefect's REST API, over plain HTTP."""

from collections.abc import Mapping
from dataclasses import dataclass

import httpx

FLOWS = {
    "materialize": "vroom_forecast_materialize",
    "train": "vroom_forecast_pipeline",
    "rollback": "vroom_forecast_rollback",
}


class WorkflowError(Exception):
    """Prefect cannot be reached, or refuses."""


@dataclass(frozen=True, slots=True)
class FlowRun:
    """A run that was asked for."""

    id: str
    name: str
    flow: str
    state: str
    url: str


class Workflows:
    """Start the deployments of prefect.yaml.

    Parameters
    ----------
    prefect_url : str
        The Prefect server, without ``/api``.
    """

    def __init__(self, prefect_url: str, *, timeout_s: float = 5.0) -> None:
        self._url = prefect_url
        self._http = httpx.Client(base_url=f"{prefect_url}/api", timeout=timeout_s)

    def start(self, action: str, parameters: Mapping[str, object] | None = None) -> FlowRun:
        """Ask for a run of ``materialize``, ``train`` or ``rollback``.

        Raises
        ------
        WorkflowError
            If the run was not scheduled.
        """
        flow = FLOWS[action]
        deployment = self._call("GET", f"/deployments/name/{flow}/{flow}")
        body = {"parameters": dict(parameters or {}), "state": {"type": "SCHEDULED"}, "tags": ["web"]}
        return self._flow_run(
            self._call("POST", f"/deployments/{deployment['id']}/create_flow_run", body), flow
        )

    def run(self, run_id: str) -> FlowRun:
        """Return how a run stands.

        Raises
        ------
        WorkflowError
            If Prefect does not say.
        """
        return self._flow_run(self._call("GET", f"/flow_runs/{run_id}"), "")

    def close(self) -> None:
        """Close the connection."""
        self._http.close()

    def _flow_run(self, answer: Mapping[str, object], flow: str) -> FlowRun:
        return FlowRun(
            id=str(answer["id"]),
            name=str(answer["name"]),
            flow=flow,
            state=str(answer.get("state_name") or "Scheduled"),
            url=f"{self._url}/runs/flow-run/{answer['id']}",
        )

    def _call(self, method: str, path: str, body: object = None) -> dict[str, object]:
        try:
            response = self._http.request(method, path, json=body)
        except httpx.HTTPError as exc:
            raise WorkflowError(f"Prefect at {self._url} cannot be reached: {exc}") from exc
        if response.is_error:
            raise WorkflowError(f"Prefect answers {response.status_code} to {method} {path}; is it deployed?")
        answer: dict[str, object] = response.json()
        return answer
