"""The pages: the first word of a URL names a module here, its blueprint and its folder of templates."""

from typing import Any

from flask import Flask, request
from flask_login import current_user

from webapp.pages import (
    arrivals,
    docs,
    feature_stores,
    fleet,
    forecast,
    latency,
    models,
    operations,
    runs,
    sign_in,
)
from webapp.security.headers import events_url
from webapp.services import services
from webapp.serving.current_model import current_model

BLUEPRINTS = (
    forecast.bp,
    arrivals.bp,
    fleet.bp,
    models.bp,
    feature_stores.bp,
    runs.bp,
    latency.bp,
    operations.bp,
    docs.bp,
    sign_in.bp,
)
NAVIGATION = (
    ("forecast", "Forecast"),
    ("arrivals", "New arrivals"),
    ("fleet", "Fleet"),
    ("models", "Models"),
    ("feature_stores", "Stores"),
    ("runs", "Runs"),
    ("latency", "Latency"),
)


def install(app: Flask) -> None:
    """Register the pages, and what every template may use."""
    for blueprint in BLUEPRINTS:
        app.register_blueprint(blueprint)
    app.context_processor(frame)


def frame() -> dict[str, Any]:
    """Return what the frame of every page shows."""
    theme = request.cookies.get("theme")
    return {
        "navigation": NAVIGATION,
        "events_url": events_url(services().settings),
        "model": current_model(),
        "theme": theme if theme in {"light", "dark"} else None,
        "is_operator": bool(current_user.is_authenticated),
    }
