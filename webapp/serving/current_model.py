"""The model that serves: one reference, replaced as a whole, and read once by each request."""

import threading
from dataclasses import dataclass
from datetime import date, datetime
from functools import cached_property
from typing import Self

import orjson
from flask import g, request
from pydantic import BaseModel, Field

from vroom_features.watch import Watch
from vroom_model.messages import ModelPromoted
from vroom_model.records import ChampionRef
from vroom_model.serving.predictor import Predictor
from webapp.problems import ProblemError
from webapp.services import services

WATCH_OF_MODEL = "the days that the model learned from; null for a model of an earlier release"


class WatchDocument(BaseModel):
    """Over which days reservations are counted, as JSON."""

    days: int = Field(description="length of a watch: a forecast counts the reservations of so many days")
    first_day: date
    last_day: date = Field(description="every reservation up to its end (UTC) was known")

    @classmethod
    def of(cls, watch: Watch | None) -> Self | None:
        if watch is None:
            return None
        return cls(days=watch.days, first_day=watch.first_day, last_day=watch.complete_through)


@dataclass(frozen=True)
class LoadedModel:
    """A model that serves, and since when."""

    predictor: Predictor
    ref: ChampionRef
    since: datetime

    @property
    def version(self) -> int:
        return self.ref.version

    @cached_property
    def watch(self) -> Watch | None:
        """What its forecasts count; None for a model of an earlier release."""
        return self.predictor.manifest.snapshot.watch

    @cached_property
    def watch_json(self) -> orjson.Fragment:
        """The same as a `WatchDocument`, written once, for it is in every answer."""
        document = WatchDocument.of(self.watch)
        return orjson.Fragment(document.model_dump_json() if document else b"null")


class ModelSlot:
    """Hold the serving model of this worker.

    Assigning a reference is atomic in Python, so readers need no lock: they see the old model or the new one.
    """

    def __init__(self) -> None:
        self.current: LoadedModel | None = None
        self.problem: str | None = None
        """Why the champion is not the model that serves; None if it is."""
        self.settled = threading.Event()
        """Set once the first attempt to load a model has ended, whatever its outcome."""

    def swap(self, model: LoadedModel) -> LoadedModel | None:
        """Let this model answer from now on, and return the one before."""
        previous, self.current = self.current, model
        self.problem = None
        return previous


def current_model() -> LoadedModel | None:
    """Return the same model for the whole of this request; None while there is none."""
    if "model" not in g:
        g.model = services().slot.current
    model: LoadedModel | None = g.model
    return model


def require_model(num_forecasts: int = 1) -> LoadedModel:
    """Return the model that serves, for so many forecasts; else 429 for this client, or 503."""
    app = services()
    if wait_s := app.limit.wait_s(request.environ, num_forecasts):
        raise too_often(wait_s)
    model = app.slot.current
    if model is None:
        raise no_model()
    return model


def too_often(wait_s: int) -> ProblemError:
    detail = f"this client asks for more forecasts than {services().limit.rule}"
    return ProblemError(429, "Too many requests", detail, Retry_After=str(wait_s))


def no_model() -> ProblemError:
    detail = services().slot.problem or "no champion yet: train and promote a model, and this works at once"
    return ProblemError(503, "No model yet", detail, Retry_After="2")


def reload_everywhere() -> LoadedModel | None:
    """Read the registry now, in this worker and, by a message, in all; return the model that serves here."""
    app = services()
    app.listener.refresh()
    model = app.slot.current
    if model is not None:
        message = ModelPromoted(model_name=app.settings.model_name, version=model.version)
        app.heartbeat.publish(message)  # else the other workers read the registry at their next poll
    return model
