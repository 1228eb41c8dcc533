"""Prefect's server, for ``uvicorn --factory flows.local.prefect_server:create_app``.

It asks for no password, and what is deployed on it is code that the worker runs.  Its command takes no
middleware, and its protection against forged requests stops no page whose name was rebound to this machine.
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
    """Return Prefect's app, which answers to this machine's names, and to its pages, only."""
    app = refuse_foreign_origins(create_prefect_app(final=True))
    return TrustedHostMiddleware(app, allowed_hosts=LOOPBACK_HOSTS)


def refuse_foreign_origins(app: ASGIApp) -> ASGIApp:
    """Return an app that answers 403 to what a page of another site sends."""

    async def checked(scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] in {"http", "websocket"}:
            origins = Headers(scope=scope).getlist("origin")
            if not all(map(LOOPBACK_ORIGIN.fullmatch, origins)):
                refusal = PlainTextResponse("Prefect answers to pages of this machine only", 403)
                await refusal(scope, receive, send)
                return
        await app(scope, receive, send)

    return checked
