"""Flow runs: started and followed through Prefect's REST API."""

import re
from collections import defaultdict
from collections.abc import Iterable, Mapping
from contextlib import suppress
from datetime import datetime, timedelta
from typing import Any, NamedTuple, TypeVar

import httpx
from pydantic import AliasPath, BaseModel, ConfigDict, Field, ValidationError
from tenacity import retry, retry_if_exception_type, stop_after_delay, wait_random_exponential

from vroom_features.addresses import ServiceAddress, prefect_headers, refusal
from webapp.services import now

FLOWS = {
    "materialize": "vroom_forecast_materialize",
    "train": "vroom_forecast_pipeline",
    "promote": "vroom_forecast_promotion",
    "rollback": "vroom_forecast_rollback",
    "monitor": "vroom_forecast_monitor",
}
ACTIVE = ("SCHEDULED", "PENDING", "RUNNING", "PAUSED", "CANCELLING")
MODEL_LINK_KEY = "mlflow-run"
MODEL_LINK = re.compile(r"\[(?P<text>[^\]]+)\]\((?P<url>https?://[^\s)]+)\)")
BUSY = frozenset({429, 502, 503})
BUSY_FOR_S = 5.0
SOON = timedelta(minutes=1)
"""A run that starts within it counts as under way, and Prefect's clock may be ahead by it."""
NUM_RECENT = 30


class WorkflowError(Exception):
    """Prefect cannot be reached, or refuses."""


class RunNotFoundError(WorkflowError):
    """Prefect has no such run."""


class _MissingError(WorkflowError): ...


class _BusyError(WorkflowError): ...


class ModelLink(NamedTuple):
    """Where MLflow shows a model, as the flow run recorded it."""

    text: str
    url: str


class Step(BaseModel):
    """A task or subflow of a run, as Prefect reports it."""

    model_config = ConfigDict(frozen=True)
    name: str
    state: str = Field("Scheduled", validation_alias=AliasPath("state", "name"))
    state_type: str = Field("SCHEDULED", validation_alias=AliasPath("state", "type"))
    """``COMPLETED``, ``FAILED``, ``RUNNING``, ..."""

    @property
    def words(self) -> str:
        """What it does, in words.

        Examples
        --------
        >>> Step(name="compare_and_promote-1c2").words
        'Compare and promote'
        """
        name, _, _ = self.name.removeprefix("vroom_forecast_").rpartition("-")
        return (name or self.name).replace("_", " ").capitalize()


class FlowRun(Step):
    """A run of a flow, as Prefect reports it, with the flow's name and what the run recorded of models."""

    id: str
    message: str | None = Field(None, validation_alias=AliasPath("state", "message"))
    started_at: datetime | None = Field(None, validation_alias="start_time")
    duration_s: float = Field(0.0, validation_alias="estimated_run_time")
    flow: str
    url: str
    models: tuple[ModelLink, ...]

    @property
    def is_active(self) -> bool:
        """True until it has ended."""
        return self.state_type in ACTIVE


Reported = TypeVar("Reported", bound=Step)


class PrefectClient:
    """Start and follow the deployments of prefect.yaml.

    Methods raise `WorkflowError` when Prefect, whose pages are at the address, does not answer as expected.
    """

    def __init__(self, address: str | ServiceAddress, *, timeout_s: float = 5.0) -> None:
        self._address = ServiceAddress(address)
        self._http = httpx.Client(
            base_url=f"{self._address}/api",  # without the password, for httpx logs each URL
            headers=prefect_headers(self._address),
            timeout=timeout_s,
        )
        self._flow_names: dict[str, str] = {}

    def start(self, action: str, parameters: Mapping[str, object] | None = None) -> FlowRun:
        """Start a run of one of ``FLOWS``; while one is under way, return that one instead."""
        flow = FLOWS[action]
        try:
            deployment = self._call("GET", f"/deployments/name/{flow}/{flow}")
        except _MissingError as exc:
            raise WorkflowError(f"Prefect has no deployment {flow}; run: prefect deploy --all") from exc
        latest = self._filter({"deployment_id": {"any_": [deployment["id"]]}}, limit=1)
        if latest and (run := self._flow_run(latest[0], flow)).is_active:
            return run
        body = {
            "parameters": dict(parameters or {}),
            "state": {"type": "SCHEDULED"},
            "tags": ["web"],
            # Two requests at once have seen the same latest run: Prefect makes one run for them.
            "idempotency_key": f"web-after-{latest[0]['id'] if latest else 'none'}",
        }
        made = self._call("POST", f"/deployments/{deployment['id']}/create_flow_run", body)
        return self._flow_run(made, flow)

    def run(self, run_id: str) -> FlowRun:
        """Return a run; `RunNotFoundError` if there is none, or no longer."""
        try:
            found = self._call("GET", f"/flow_runs/{run_id}")
        except _MissingError as exc:
            raise RunNotFoundError(f"Prefect has no run {run_id}") from exc
        return self._flow_run(found, self._names([found["flow_id"]]).get(found["flow_id"], ""))

    def recent(self, *, action: str | None = None, limit: int = NUM_RECENT) -> list[FlowRun]:
        """Return the last runs of our flows, or of one action's, newest first."""
        wanted = {"name": {"any_": [FLOWS[action]]}} if action else {"name": {"like_": "vroom_forecast_"}}
        found = self._filter({}, flows=wanted, limit=limit)
        names = self._names([run["flow_id"] for run in found])
        models = self._models([run["id"] for run in found])
        return [self._flow_run(run, names.get(run["flow_id"], ""), models[run["id"]]) for run in found]

    def latest(self, actions: Iterable[str]) -> dict[str, FlowRun]:
        """Return the latest run of each of these actions that ever ran."""
        runs = self.recent()
        by_flow = {run.flow: run for run in reversed(runs)}
        found = {}
        for action in actions:
            run = by_flow.get(FLOWS[action])
            if run is None and len(runs) == NUM_RECENT:  # it may be older than all of them
                run = next(iter(self.recent(action=action, limit=1)), None)
            if run is not None:
                found[action] = run
        return found

    def steps(self, run_id: str) -> list[Step]:
        """Return the tasks and subflows of a run, in the order they began."""
        body = {"flow_runs": {"id": {"any_": [run_id]}}, "limit": 50, "sort": "EXPECTED_START_TIME_ASC"}
        return [self._read(Step, task) for task in self._call("POST", "/task_runs/filter", body)]

    def close(self) -> None:
        self._http.close()

    def _filter(
        self, wanted: Mapping[str, object], *, limit: int, flows: Mapping[str, object] | None = None
    ) -> list[dict[str, Any]]:
        """Return the last runs, newest first, without those that are scheduled for later."""
        due = {**wanted, "expected_start_time": {"before_": (now() + SOON).isoformat()}}
        body = {"flows": flows, "flow_runs": due, "limit": limit, "sort": "EXPECTED_START_TIME_DESC"}
        found: list[dict[str, Any]] = self._call("POST", "/flow_runs/filter", body)
        return found

    def _names(self, flow_ids: list[str]) -> dict[str, str]:
        """Return the names of flows by id; a flow keeps its name, so each is read once."""
        unknown = sorted(set(flow_ids) - self._flow_names.keys())
        if unknown:
            body = {"flows": {"id": {"any_": unknown}}, "limit": 100}
            flows = self._call("POST", "/flows/filter", body)
            self._flow_names |= {flow["id"]: flow["name"] for flow in flows}
        return self._flow_names

    def _models(self, run_ids: list[str]) -> defaultdict[str, tuple[ModelLink, ...]]:
        """Return the links to models that runs recorded, by run."""
        found: defaultdict[str, tuple[ModelLink, ...]] = defaultdict(tuple)
        if run_ids:
            wanted = {"flow_run_id": {"any_": run_ids}, "key": {"any_": [MODEL_LINK_KEY]}}
            for artifact in self._call("POST", "/artifacts/filter", {"artifacts": wanted, "limit": 200}):
                if link := MODEL_LINK.fullmatch(str(artifact["data"])):
                    found[artifact["flow_run_id"]] += (ModelLink(link["text"], link["url"]),)
        return found

    def _flow_run(
        self, answer: Mapping[str, object], flow: str, models: tuple[ModelLink, ...] = ()
    ) -> FlowRun:
        url = f"{self._address}/runs/flow-run/{answer.get('id')}"
        return self._read(FlowRun, {**answer, "flow": flow, "url": url, "models": models})

    def _read(self, kind: type[Reported], answer: Mapping[str, object]) -> Reported:
        try:
            return kind.model_validate(answer)
        except ValidationError as exc:
            problem = f"Prefect at {self._address} sent what is not a run: {exc.error_count()} errors"
            raise WorkflowError(problem) from exc

    @retry(
        retry=retry_if_exception_type(_BusyError),
        wait=wait_random_exponential(multiplier=0.05, max=1.0),
        stop=stop_after_delay(BUSY_FOR_S),
        reraise=True,
    )
    def _call(self, method: str, path: str, body: object = None) -> Any:  # whatever JSON Prefect answers with
        """Send a request, again while Prefect is busy; each of them may be repeated safely.

        On SQLite it answers 503 to one of two that write at once, and then closes that connection.
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
        if problem := refusal("Prefect", response.status_code, response.content):
            raise WorkflowError(problem)
        if response.status_code == httpx.codes.NOT_FOUND:
            raise _MissingError(f"Prefect answers 404 to {asked}")
        with suppress(ValueError):
            answer = response.json()
            if response.is_success:
                return answer
        raise WorkflowError(f"Prefect answers {response.status_code} to {asked}: {response.text[:200]!r}")
