"""A blueprint whose inputs are checked strictly and documented in OpenAPI from the same types.

A view names what it takes by parameter: ``path``, ``query``, ``header``, ``body``, each a pydantic model.
JSON bodies are validated in strict mode (``"45"`` and ``true`` are no numbers), by pydantic's own reader.
"""

from collections.abc import Callable
from functools import wraps
from typing import Any

from flask import Response, request
from flask_openapi3 import APIBlueprint
from pydantic import BaseModel, ValidationError

from webapp.problems import ProblemError, invalid
from webapp.security.guards import guard_of

Model = type[BaseModel]


def read_json(model: Model) -> BaseModel:
    """Return this request's JSON body as the model.

    Raises
    ------
    ProblemError
        415 for another content type, 400 for what is no JSON, 422 for what the model refuses.
    """
    if not request.is_json:
        raise ProblemError(
            415, "Not JSON", f"send Content-Type: application/json, not {request.mimetype or 'none'}"
        )
    try:
        return model.model_validate_json(request.get_data(cache=False), strict=True)
    except ValidationError as exc:
        raise invalid(exc) from exc


class ValidatedBlueprint(APIBlueprint):
    """An :class:`~flask_openapi3.APIBlueprint` with strict validation and problem documents."""

    @staticmethod
    def create_view_func(  # type: ignore[no-untyped-def]  # overrides a method that is not typed
        func,
        header,
        cookie,
        path,
        query,
        form,
        body,
        raw,
        view_class=None,
        view_kwargs=None,
        responses=None,
        validate_response=None,
    ) -> Callable[..., Any]:
        """Return the view with its inputs checked."""
        inputs: dict[str, Model] = {
            name: model for name, model in (("path", path), ("query", query), ("header", header)) if model
        }

        guard, work = guard_of(func)

        @wraps(func)
        def view(**kwargs: Any) -> Response:
            guard()  # a stranger learns nothing of what is wrong with the input
            checked: dict[str, BaseModel] = {}
            try:
                for name, model in inputs.items():
                    checked[name] = model.model_validate(_given(name, kwargs))
            except ValidationError as exc:
                raise invalid(exc) from exc
            if body is not None:
                checked["body"] = read_json(body)
            answer = work(**checked)
            if isinstance(answer, BaseModel):
                return Response(answer.model_dump_json(), content_type="application/json")
            response: Response = answer
            return response

        return view


def _given(name: str, kwargs: dict[str, Any]) -> dict[str, Any]:
    """Return what a request gives for one kind of input."""
    if name == "path":
        return kwargs
    if name == "query":
        return request.args.to_dict()
    return dict(request.headers.items())
