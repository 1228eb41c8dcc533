"""What templates use: filters, styles and the addresses of scripts; and pages that are sent in two parts."""

import base64
from collections.abc import Iterator
from hashlib import sha256
from itertools import takewhile
from pathlib import Path
from typing import Any

from flask import Flask, Response, send_from_directory, stream_template, url_for
from markupsafe import Markup

from webapp.rendering import formats

STATIC = Path(__file__).parents[1] / "static"
STYLES = ("css/base.css", "css/parts.css", "css/forecast.css", "css/charts.css", "vendor/uPlot.min.css")
"""In the order of the cascade."""
YEAR_S = 365 * 24 * 3600
PAUSE = "\f"
"""What a template writes, as ``{{ pause }}``, before it first calls something slow."""


def install(app: Flask) -> str:
    """Give templates what they use; return what the content security policy says of the styles.

    Styles are part of each page, painted without another request.  Scripts have addresses with a
    digest of all of them, so that a browser keeps them until a new release; they import each other by
    relative paths.
    """
    styles = "\n".join((STATIC / name).read_text() for name in STYLES)
    scripts = sorted(path for path in STATIC.rglob("*") if path.is_file() and path.suffix != ".css")
    digest = sha256(b"".join(path.name.encode() + path.read_bytes() for path in scripts)).hexdigest()[:16]

    def send_script(asked: str, name: str) -> Response:
        # An open page of another release gets our file, and does not cache it.
        is_ours = asked == digest
        response = send_from_directory(STATIC, name, max_age=YEAR_S if is_ours else None)
        response.cache_control.immutable = is_ours
        return response

    app.add_url_rule("/static/<asked>/<path:name>", "static", send_script)
    app.add_template_global(lambda name: url_for("static", asked=digest, name=name), "asset")
    app.jinja_env.globals["styles"] = Markup(styles)  # noqa: S704 - our own files
    for name, function in formats.FILTERS.items():
        app.add_template_filter(function, name)
    return f"'sha256-{base64.b64encode(sha256(styles.encode()).digest()).decode()}'"


def stream_page(template: str, **context: Any) -> Response:
    """Send a page up to its pause at once, and the rest when it is there; slow things are given as functions.

    The first part is made before the answer begins, so what it changes in the session is still sent.
    """
    chunks = stream_template(template, pause=PAUSE, **context)
    head = "".join(takewhile(lambda chunk: chunk != PAUSE, chunks))

    def parts() -> Iterator[str]:
        yield head
        yield "".join(chunks)

    return Response(parts(), content_type="text/html; charset=utf-8")
