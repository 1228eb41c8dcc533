"""The pages: the first word of a URL names a module here, its blueprint and its folder of templates."""

from pathlib import Path
from typing import Any

from flask import Flask, current_app, request
from flask_login import current_user

from vroom_model.records import REASON_MAX
from webapp.pages import (
    arrivals,
    docs,
    feature_stores,
    fleet,
    forecast,
    models,
    my_cars,
    operations,
    runs,
    sign_in,
    system,
)
from webapp.security.headers import events_url
from webapp.services import services
from webapp.serving.current_model import current_model

PAGES = (forecast, my_cars, arrivals, fleet, models, feature_stores, runs, system, operations, docs, sign_in)
BLUEPRINTS = tuple(page.bp for page in PAGES)
FOR_HOSTS = (("forecast", "Forecast"), ("my_cars", "My cars"), ("fleet", "Fleet"))
FOR_OPERATORS = (
    ("arrivals", "Saved cars"),
    ("models", "Models"),
    ("feature_stores", "Data"),
    ("runs", "Runs"),
    ("system", "System"),
)


def install(app: Flask) -> None:
    """Register the pages, and what every template may use."""
    for blueprint in BLUEPRINTS:
        app.register_blueprint(blueprint)
    app.context_processor(frame)
    app.jinja_env.globals["reason_max"] = REASON_MAX


def frame() -> dict[str, Any]:
    """Return what the frame of every page shows."""
    theme = request.cookies.get(f"{current_app.config['SESSION_COOKIE_NAME']}-theme")
    model = current_model()
    is_operator = bool(current_user.is_authenticated)
    return {
        "navigation": FOR_HOSTS + FOR_OPERATORS if is_operator else FOR_HOSTS,
        "events_url": events_url(services().settings),
        "model": model,
        "theme": theme if theme in {"light", "dark"} else None,
        "is_operator": is_operator,
        "alerts": services().alerts.current if is_operator else (),
        "starting": None if model else read_starting(services().settings.starting),
    }


def read_starting(file: Path) -> str:
    """Return what `make run` waits for; empty if it does not start."""
    try:
        return file.read_text()
    except OSError:
        return ""
