"""Prefect's server with a lock on its door: it asks for no password, so it knows this machine's names only.

Prefect checks neither Host nor Origin.  Without that a web page anywhere could reach it through the browser
of whoever runs it (by DNS rebinding, or by simply posting), and a deployment made so is code that the worker
runs.
"""

from urllib.parse import urlsplit

import uvicorn
from prefect.server.api.server import create_app
from starlette.datastructures import Headers
from starlette.responses import PlainTextResponse
from starlette.types import ASGIApp, Receive, Scope, Send

LOOPBACK_NAMES = {"127.0.0.1", "localhost", "::1"}


class LoopbackOnly:
    """ASGI middleware that refuses what a page of another site, or by another name, sends.

    Parameters
    ----------
    app : ASGI application
        What it protects.
    """

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Hand on, or refuse with 403; a WebSocket that is refused is closed before it opens."""
        if scope["type"] in {"http", "websocket"}:
            headers = Headers(scope=scope)
            names = [f"//{headers.get('host', '')}", *headers.getlist("origin")]
            if not all(_is_loopback(name) for name in names):
                if scope["type"] == "websocket":
                    await send({"type": "websocket.close", "code": 1008})
                else:
                    refusal = PlainTextResponse("Prefect answers to this machine's names only", 403)
                    await refusal(scope, receive, send)
                return
        await self._app(scope, receive, send)


def _is_loopback(url: str) -> bool:
    """Tell whether a URL's host is this machine; what cannot be read is not."""
    try:
        return urlsplit(url).hostname in LOOPBACK_NAMES
    except ValueError:
        return False


def serve(port: int) -> None:
    """Serve Prefect on loopback until SIGTERM or SIGINT."""
    app = LoopbackOnly(create_app(final=True))
    uvicorn.run(app, host="127.0.0.1", port=port, log_level="warning")
