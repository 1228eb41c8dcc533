"""Prefect's server, for ``uvicorn --factory flows.local.prefect_server:create_app``.

Prefect asks for no password, and a deployment is code that the worker runs.  Its own command accepts no
middleware, and its CSRF protection does not stop a page whose host name was rebound to this machine.
"""

import re

from prefect.server.api.server import create_app as create_prefect_app
from starlette.datastructures import Headers
from starlette.middleware.trustedhost import TrustedHostMiddleware
from starlette.responses import PlainTextResponse
from starlette.types import ASGIApp, Receive, Scope, Send

LOOPBACK_HOSTS = ["127.0.0.1", "localhost", "[::1]"]
LOOPBACK_ORIGIN = re.compile(rf"https?://({'|'.join(map(re.escape, LOOPBACK_HOSTS))})(:\d+)?")


def create_app() -> ASGIApp:
    """Return Prefect's app, for the host names and the pages of this machine only."""
    app = refuse_foreign_origins(create_prefect_app(final=True))
    return TrustedHostMiddleware(app, allowed_hosts=LOOPBACK_HOSTS)


def refuse_foreign_origins(app: ASGIApp) -> ASGIApp:
    """Return the app with a 403 for every request from a page of another site."""

    async def checked(scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] in {"http", "websocket"}:
            origins = Headers(scope=scope).getlist("origin")
            if not all(map(LOOPBACK_ORIGIN.fullmatch, origins)):
                refusal = PlainTextResponse("Prefect answers to pages of this machine only", 403)
                await refusal(scope, receive, send)
                return
        await app(scope, receive, send)

    return checked
