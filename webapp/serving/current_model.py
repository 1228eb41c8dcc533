"""The model of one request: one and the same for its whole answer."""

import logging

from flask import g, request
from redis.exceptions import RedisError

from vroom_model.messages import ModelPromoted
from webapp.problems import ProblemError
from webapp.services import services
from webapp.serving.model_slot import LoadedModel

logger = logging.getLogger(__name__)


def current_model() -> LoadedModel | None:
    """Return the model that serves, as this request first saw it; None while there is none."""
    if "served" not in g:
        g.served = services().slot.current
    served: LoadedModel | None = g.served
    return served


def require_model(num_forecasts: int = 1) -> LoadedModel:
    """Return the model that serves, for the whole of this request, which asks for so many forecasts.

    Raises
    ------
    ProblemError
        429 when this client asked too often, 503 while there is no model.
    """
    app = services()
    if wait_s := app.limit.wait_s(request.environ, num_forecasts):
        raise too_often(wait_s)
    served = app.slot.current
    if served is None:
        raise no_model()
    return served


def too_often(wait_s: int) -> ProblemError:
    """Return why a client gets no forecast that others get."""
    detail = f"this client asks for more forecasts than {services().limit.rule}"
    return ProblemError(429, "Too many requests", detail, Retry_After=str(wait_s))


def no_model() -> ProblemError:
    """Return why there is no forecast."""
    detail = services().slot.problem or "no champion yet: train and promote a model, and this works at once"
    return ProblemError(503, "No model yet", detail, Retry_After="2")


def reload_everywhere() -> LoadedModel | None:
    """Read the registry now, in this worker and, by a message, in all; return the model that serves here."""
    app = services()
    app.listener.refresh()
    served = app.slot.current
    if served is not None:
        hint = ModelPromoted(model_name=app.settings.model_name, version=served.version)
        try:
            app.redis.publish(hint.channel, hint.encode())
        except RedisError as exc:
            logger.warning("the others read the registry at their next poll: %s", exc)
    return served
