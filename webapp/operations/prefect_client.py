"""Flow runs: started and followed through Prefect's REST API, over plain HTTP."""

import re
from collections import defaultdict
from collections.abc import Iterable, Mapping
from dataclasses import replace
from datetime import datetime, timedelta
from typing import Any

import httpx
from pydantic import BaseModel, ValidationError
from tenacity import retry, retry_if_exception_type, stop_after_delay, wait_random_exponential

from vroom_features.addresses import ServiceAddress
from webapp.operations.flow_runs import FlowRun, ModelLink, Step
from webapp.services import now

FLOWS = {
    "materialize": "vroom_forecast_materialize",
    "train": "vroom_forecast_pipeline",
    "promote": "vroom_forecast_promotion",
    "rollback": "vroom_forecast_rollback",
    "monitor": "vroom_forecast_monitor",
}
MODEL_LINK_KEY = "mlflow-run"
MODEL_LINK = re.compile(r"\[(?P<text>[^\]]+)\]\((?P<url>https?://[^\s)]+)\)")
BUSY = frozenset({429, 502, 503})
BUSY_FOR_S = 5.0
SOON = timedelta(minutes=1)
"""A run that starts within it counts as under way, and Prefect's clock may be ahead by it."""


class WorkflowError(Exception):
    """Prefect cannot be reached, or refuses."""


class RunNotFoundError(WorkflowError):
    """Prefect has no such run."""


class _MissingError(WorkflowError):
    """Prefect has no such thing."""


class _BusyError(WorkflowError):
    """Prefect would answer another time."""


class _State(BaseModel):
    type: str = "SCHEDULED"
    name: str | None = None
    message: str | None = None


class _Run(BaseModel):
    """What is read of a flow run or a task run."""

    id: str
    name: str
    flow_id: str = ""
    state: _State | None = None
    start_time: datetime | None = None
    end_time: datetime | None = None
    estimated_run_time: float = 0.0
    expected_start_time: datetime | None = None


class PrefectClient:
    """Start and follow the deployments of prefect.yaml.

    Parameters
    ----------
    address : str or ServiceAddress
        Of the Prefect server, without ``/api``.
    """

    def __init__(self, address: str | ServiceAddress, *, timeout_s: float = 5.0) -> None:
        self._address = ServiceAddress(address)
        self._http = httpx.Client(
            base_url=f"{self._address}/api",  # httpx logs each URL and repeats it in errors
            auth=self._address.credentials,
            timeout=timeout_s,
        )
        self._flow_names: dict[str, str] = {}

    def start(self, action: str, parameters: Mapping[str, object] | None = None) -> FlowRun:
        """Ask for a run; while one is under way, return that one instead of starting another.

        Parameters
        ----------
        action : str
            One of ``FLOWS``.
        parameters : mapping, optional
            Of the flow.

        Raises
        ------
        WorkflowError
            If the run was not scheduled.
        """
        flow = FLOWS[action]
        deployment = self._call("GET", f"/deployments/name/{flow}/{flow}")
        latest = self._filter({"deployment_id": {"any_": [deployment["id"]]}}, limit=1)
        if latest and (run := self._flow_run(latest[0], flow)).is_active:
            return run
        body = {
            "parameters": dict(parameters or {}),
            "state": {"type": "SCHEDULED"},
            "tags": ["web"],
            # Two who ask at once have seen the same latest run: Prefect makes one run for them.
            "idempotency_key": f"web-after-{latest[0]['id'] if latest else 'none'}",
        }
        return self._flow_run(
            self._call("POST", f"/deployments/{deployment['id']}/create_flow_run", body), flow
        )

    def run(self, run_id: str) -> FlowRun:
        """Return how a run stands.

        Raises
        ------
        RunNotFoundError
            If there is no such run, or no more.
        WorkflowError
            If Prefect does not say.
        """
        try:
            found = self._call("GET", f"/flow_runs/{run_id}")
        except _MissingError as exc:
            raise RunNotFoundError(f"Prefect has no run {run_id}") from exc
        return self._flow_run(found, self._names([found["flow_id"]]).get(found["flow_id"], ""))

    def recent(self, *, action: str | None = None, limit: int = 30) -> list[FlowRun]:
        """Return the last runs of our flows, or of one action's, newest first.

        Raises
        ------
        WorkflowError
            If Prefect does not say.
        """
        wanted = {"name": {"any_": [FLOWS[action]]}} if action else {"name": {"like_": "vroom_forecast_"}}
        found = self._filter({}, flows=wanted, limit=limit)
        names = self._names([run["flow_id"] for run in found])
        models = self._models([run["id"] for run in found])
        return [
            replace(self._flow_run(run, names.get(run["flow_id"], "")), models=models[run["id"]])
            for run in found
        ]

    def latest(self, actions: Iterable[str], *, looked_at: int = 30) -> dict[str, FlowRun]:
        """Return the latest run of each of these actions that ever ran.

        One question answers for all of them, unless an action's last run lies further back than what
        it looks at.

        Raises
        ------
        WorkflowError
            If Prefect does not say.
        """
        runs = self.recent(limit=looked_at)
        by_flow = {run.flow: run for run in reversed(runs)}
        found = {}
        for action in actions:
            run = by_flow.get(FLOWS[action])
            if run is None and len(runs) == looked_at:
                run = next(iter(self.recent(action=action, limit=1)), None)
            if run is not None:
                found[action] = run
        return found

    def steps(self, run_id: str) -> list[Step]:
        """Return the tasks and subflows of a run, in the order they began.

        Raises
        ------
        WorkflowError
            If Prefect does not say.
        """
        body = {"flow_runs": {"id": {"any_": [run_id]}}, "limit": 50, "sort": "EXPECTED_START_TIME_ASC"}
        found = [self._read(task) for task in self._call("POST", "/task_runs/filter", body)]
        return [
            Step(task.name, (task.state or _State()).name or "", (task.state or _State()).type)
            for task in found
        ]

    def close(self) -> None:
        """Close the connection."""
        self._http.close()

    def _filter(
        self, wanted: Mapping[str, object], *, limit: int, flows: Mapping[str, object] | None = None
    ) -> list[dict[str, Any]]:
        """Return the last runs, newest first, without those that a schedule has start later."""
        due = {**wanted, "expected_start_time": {"before_": (now() + SOON).isoformat()}}
        body = {"flows": flows, "flow_runs": due, "limit": limit, "sort": "EXPECTED_START_TIME_DESC"}
        found: list[dict[str, Any]] = self._call("POST", "/flow_runs/filter", body)
        return found

    def _names(self, flow_ids: list[str]) -> dict[str, str]:
        """Return the names of flows by id; a flow keeps its name, so each is asked for once."""
        unknown = sorted(set(flow_ids) - self._flow_names.keys())
        if unknown:
            body = {"flows": {"id": {"any_": unknown}}, "limit": 100}
            flows = self._call("POST", "/flows/filter", body)
            self._flow_names |= {flow["id"]: flow["name"] for flow in flows}
        return self._flow_names

    def _models(self, run_ids: list[str]) -> defaultdict[str, tuple[ModelLink, ...]]:
        """Return the links to models that runs left, by run."""
        found: defaultdict[str, tuple[ModelLink, ...]] = defaultdict(tuple)
        if run_ids:
            wanted = {"flow_run_id": {"any_": run_ids}, "key": {"any_": [MODEL_LINK_KEY]}}
            for artifact in self._call("POST", "/artifacts/filter", {"artifacts": wanted, "limit": 200}):
                if link := MODEL_LINK.fullmatch(str(artifact["data"])):
                    found[artifact["flow_run_id"]] += (ModelLink(link["text"], link["url"]),)
        return found

    def _flow_run(self, answer: Mapping[str, object], flow: str) -> FlowRun:
        run = self._read(answer)
        state = run.state or _State()
        return FlowRun(
            id=run.id,
            name=run.name,
            flow=flow,
            state=state.name or "Scheduled",
            state_type=state.type,
            message=state.message or "",
            started_at=run.start_time,
            ended_at=run.end_time,
            duration_s=run.estimated_run_time,
            url=f"{self._address}/runs/flow-run/{run.id}",
        )

    def _read(self, answer: Mapping[str, object]) -> _Run:
        try:
            return _Run.model_validate(answer)
        except ValidationError as exc:
            raise WorkflowError(
                f"Prefect at {self._address} answers what is no run: {exc.error_count()} errors"
            ) from exc

    @retry(
        retry=retry_if_exception_type(_BusyError),
        wait=wait_random_exponential(multiplier=0.05, max=1.0),
        stop=stop_after_delay(BUSY_FOR_S),
        reraise=True,
    )
    def _call(self, method: str, path: str, body: object = None) -> Any:  # whatever JSON Prefect answers with
        """Ask Prefect; while it is busy, again: whatever is asked here may be asked twice.

        On SQLite it answers 503 to one of two who write at once, and then closes that connection unannounced.
        """
        asked = f"{method} {path}"
        try:
            response = self._http.request(method, path, json=body)
        except (httpx.ReadError, httpx.RemoteProtocolError) as exc:
            raise _BusyError(f"Prefect at {self._address} hung up on {asked}: {exc}") from exc
        except httpx.HTTPError as exc:
            raise WorkflowError(f"Prefect at {self._address} cannot be reached: {exc}") from exc
        if response.status_code in BUSY:
            raise _BusyError(f"Prefect is busy ({response.status_code} to {asked}); try again in a moment")
        if response.status_code == httpx.codes.NOT_FOUND:
            raise _MissingError(f"Prefect answers 404 to {asked}; is it deployed?")
        if response.is_error:
            raise WorkflowError(f"Prefect answers {response.status_code} to {asked}; is it deployed?")
        return response.json()
