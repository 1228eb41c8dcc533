"""The model of one request: one and the same for all that a page shows."""

from flask import g

from webapp.services import services
from webapp.serving.model_slot import Served


def serving_now() -> Served | None:
    """Return the model that serves, as this request first saw it; None while there is none."""
    if "served" not in g:
        g.served = services().slot.current
    served: Served | None = g.served
    return served
