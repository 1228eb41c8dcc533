"""The JSON API's operations: what the operator may start."""

from flask import Response
from flask_openapi3 import Tag
from flask_openapi3.types import ResponseDict
from pydantic import BaseModel, Field

from webapp.auth import operator_required
from webapp.openapi import OPERATOR
from webapp.problems import Problem
from webapp.services import services
from webapp.strict import StrictBlueprint
from webapp.workflows import FlowRun

operations_api = StrictBlueprint("operations_api", __name__, abp_tags=[Tag(name="operations")])
REFUSALS: ResponseDict = {401: Problem, 403: Problem, 503: Problem}


class RunDocument(BaseModel):
    """A flow run that was asked for."""

    id: str
    name: str
    flow: str
    state: str
    url: str = Field(description="its page in Prefect")


class RunPath(BaseModel):
    """A flow run's id."""

    run_id: str = Field(pattern=r"^[0-9a-f-]{36}$")


def accepted(run: FlowRun) -> Response:
    """Return 202 with the run, and where to ask how it stands."""
    document = RunDocument(id=run.id, name=run.name, flow=run.flow, state=run.state, url=run.url)
    return Response(
        document.model_dump_json(),
        status=202,
        content_type="application/json",
        headers={"Location": f"/runs/{run.id}"},
    )


@operations_api.post("/materialize", security=OPERATOR, responses={202: RunDocument, **REFUSALS})
@operator_required
def materialize() -> Response:
    """Start seeding and materializing."""
    return accepted(services().workflows.start("materialize"))


@operations_api.post("/train", security=OPERATOR, responses={202: RunDocument, **REFUSALS})
@operator_required
def train() -> Response:
    """Start the pipeline: training, then promotion."""
    return accepted(services().workflows.start("train"))


@operations_api.post("/rollback", security=OPERATOR, responses={202: RunDocument, **REFUSALS})
@operator_required
def rollback() -> Response:
    """Make the previous champion serve again."""
    return accepted(services().workflows.start("rollback"))


@operations_api.get("/runs/<run_id>", responses={200: RunDocument, 422: Problem, 503: Problem})
def run(path: RunPath) -> BaseModel:
    """Tell how a run stands."""
    found = services().workflows.run(path.run_id)
    return RunDocument(id=found.id, name=found.name, flow=found.flow, state=found.state, url=found.url)
