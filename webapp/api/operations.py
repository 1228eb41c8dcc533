"""What the operator may do: POST /materialize, /train, /rollback, /reload; GET /runs/{id} and /audit."""

from datetime import datetime
from uuid import UUID

from flask import Response, request
from flask_openapi3 import Tag
from flask_openapi3.types import ResponseDict
from pydantic import BaseModel, ConfigDict, Field

from vroom_features.database.queries import BIGGEST_ID
from webapp.api.openapi import OPERATOR, ValidatedBlueprint, operator_required
from webapp.prefect_client import FlowRun
from webapp.problems import Problem
from webapp.services import services
from webapp.serving.current_model import reload_everywhere

operations_api = ValidatedBlueprint("operations_api", __name__, abp_tags=[Tag(name="operations")])
REFUSALS: ResponseDict = {401: Problem, 403: Problem}


class RunDocument(BaseModel):
    """A flow run that was asked for."""

    id: str
    name: str
    flow: str
    state: str
    url: str = Field(description="its page in Prefect")


class RunPath(BaseModel):
    """A flow run's id."""

    run_id: UUID


class ReloadDocument(BaseModel):
    """The model after a reload."""

    model_version: int | None
    problem: str | None


class AuditQuery(BaseModel):
    """Which lines of the audit log."""

    model_config = ConfigDict(extra="forbid")
    limit: int = Field(default=100, ge=1, le=1_000)
    before: int | None = Field(default=None, ge=1, le=BIGGEST_ID, description="only lines before this id")


class AuditDocument(BaseModel):
    """A line of the audit log, written before the change that it records."""

    id: int
    happened_at: datetime
    actor: str = Field(description="the operator, by cookie, token, password or sign-in link")
    action: str = Field(description="the endpoint")
    subject: str = Field(description="the path; of a sign-in or a sign-out the session")
    client: str
    request_id: str
    reason: str


class AuditPageDocument(BaseModel):
    """Lines of the audit log."""

    entries: list[AuditDocument]


def _document(run: FlowRun) -> RunDocument:
    return RunDocument(id=run.id, name=run.name, flow=run.flow, state=run.state, url=run.url)


def _start(action: str) -> Response:
    """Start a flow, and return 202 with the run and the path of its state."""
    document = _document(services().prefect.start(action))
    return Response(
        document.model_dump_json(),
        status=202,
        content_type="application/json",
        headers={"Location": f"{request.script_root}/runs/{document.id}"},
    )


@operations_api.post(
    "/materialize", security=OPERATOR, responses={202: RunDocument, 503: Problem, **REFUSALS}
)
@operator_required
def materialize() -> Response:
    """Start seeding and materializing."""
    return _start("materialize")


@operations_api.post("/train", security=OPERATOR, responses={202: RunDocument, 503: Problem, **REFUSALS})
@operator_required
def train() -> Response:
    """Start the pipeline: training, then promotion."""
    return _start("train")


@operations_api.post("/rollback", security=OPERATOR, responses={202: RunDocument, 503: Problem, **REFUSALS})
@operator_required
def rollback() -> Response:
    """Make the previous champion serve again."""
    return _start("rollback")


@operations_api.post("/reload", security=OPERATOR, responses={200: ReloadDocument, **REFUSALS})
@operator_required
def reload() -> ReloadDocument:
    """Read the registry now instead of at the next poll, in this worker and, by message, in all."""
    model = reload_everywhere()
    return ReloadDocument(model_version=model.version if model else None, problem=services().slot.problem)


@operations_api.get("/runs/<run_id>", responses={200: RunDocument, 404: Problem, 422: Problem, 503: Problem})
def run(path: RunPath) -> RunDocument:
    """Return the state of a run."""
    return _document(services().prefect.run(str(path.run_id)))


@operations_api.get(
    "/audit", security=OPERATOR, responses={200: AuditPageDocument, 401: Problem, 422: Problem}
)
@operator_required
def audit(query: AuditQuery) -> AuditPageDocument:
    """List what the operator did, the last first."""
    entries = services().audit_log.entries(limit=query.limit, before=query.before)
    return AuditPageDocument(entries=[AuditDocument(**entry.model_dump()) for entry in entries])
