"""Whatever the API's own description lets a client send, and what it does not: schemathesis makes it up."""

import pytest
import schemathesis
from flask import Flask
from hypothesis import HealthCheck, Phase, given
from hypothesis import settings as hypothesis_settings
from hypothesis.errors import Unsatisfiable
from schemathesis import Case, GenerationMode
from schemathesis.checks import not_a_server_error
from schemathesis.specs.openapi.checks import content_type_conformance, response_schema_conformance

from vroom_features.settings import Settings

pytestmark = pytest.mark.shared_app
CHECKS = [content_type_conformance, response_schema_conformance]
few = hypothesis_settings(
    max_examples=3,
    deadline=None,
    derandomize=True,
    database=None,
    phases=[Phase.explicit, Phase.generate],
    suppress_health_check=list(HealthCheck),
)


@pytest.mark.filterwarnings(  # the app's own threads do: tenacity and redis spread their retries by it
    "ignore:Do not use the `random` module inside strategies"
)
@pytest.mark.parametrize("mode", list(GenerationMode), ids=lambda mode: mode.name.lower())
def test_no_request_breaks_an_operation_and_answers_are_as_described(
    app: Flask, settings: Settings, operator: dict[str, str], mode: GenerationMode
) -> None:
    schema = schemathesis.openapi.from_wsgi("/openapi.json", app)
    failures: dict[tuple[str, int, str], str] = {}
    answered: set[str] = set()
    takes_anything: set[str] = set()
    for found in schema.get_all_operations():
        operation = found.ok()

        def answers(case: Case) -> None:
            if "name" in case.path_parameters:
                case.path_parameters["name"] = settings.model_name
            for headers in (operator, {}):
                response = case.call(headers=headers)
                answered.add(case.operation.label)
                checks = list(CHECKS)
                if response.status_code != 503 or "503" not in case.operation.responses.status_codes:
                    checks.append(not_a_server_error)  # Prefect is not reachable here, which is a 503
                try:
                    case.validate_response(response, checks=checks)
                except* AssertionError as exc:
                    key = (case.operation.label, response.status_code, type(exc.exceptions[0]).__name__)
                    failures.setdefault(key, str(exc.exceptions[0])[:600])

        try:
            few(given(operation.as_strategy(generation_mode=mode))(answers))()
        except Unsatisfiable:  # nothing that it takes could be wrong
            takes_anything.add(operation.label)
    assert failures == {}
    assert len(answered | takes_anything) > 20
    assert len(answered) > 10
