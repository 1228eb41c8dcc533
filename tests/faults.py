"""Real proxies in front of MLflow and Redis that can fail on demand."""

import logging
import select
import socket
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from socketserver import BaseRequestHandler, ThreadingTCPServer
from typing import TYPE_CHECKING, Literal

import httpx
from werkzeug.serving import make_server
from werkzeug.wrappers import Request, Response

if TYPE_CHECKING:
    from _typeshed.wsgi import WSGIApplication

ALIAS = "registered-models/alias"
"""End of the path by which an alias of a model is moved in MLflow."""
Fault = Literal["", "stop", "hang", "trickle", "garble"]
logging.getLogger("werkzeug").setLevel(logging.ERROR)  # it would log each request


@contextmanager
def served(app: "WSGIApplication") -> Iterator[str]:
    """Serve an app on a free port for the time of the block; yield its address."""
    server = make_server("127.0.0.1", 0, app, threaded=True)
    threading.Thread(target=server.serve_forever, args=(0.05,), daemon=True).start()
    yield f"http://127.0.0.1:{server.server_port}"
    server.shutdown()
    server.server_close()


class FaultyProxy:
    """An app that passes requests on, or fails in one of the ways that servers fail."""

    url: str

    def __init__(self, client: httpx.Client) -> None:
        self.fault: Fault = ""
        self._client = client
        self._healed = threading.Event()

    @Request.application
    def __call__(self, request: Request) -> Response:
        if self.fault == "hang":
            self._healed.wait(60)
        if self.fault == "stop":
            return Response(status=502)
        if self.fault == "garble":
            return Response("<html>not what you asked for</html>")
        kind = {"Content-Type": request.content_type} if request.content_type else None
        address, body = request.environ["RAW_URI"], request.get_data()
        answer = self._client.request(request.method, address, content=body, headers=kind)
        content = self._trickle(answer.content) if self.fault == "trickle" else answer.content
        return Response(content, answer.status_code)

    def _trickle(self, content: bytes) -> Iterator[bytes]:
        """Yield a byte every 0.2 s until healed."""
        for position in range(len(content)):
            yield content[position : position + 1]
            if self._healed.wait(0.2):
                return

    def heal(self) -> None:
        self.fault = ""
        self._healed.set()
        self._healed = threading.Event()


@contextmanager
def proxy_that_refuses(
    mlflow: str, step: str = ALIAS, *, refuses: Callable[[], bool] = lambda: True, is_done: bool = False
) -> Iterator[str]:
    """Stand before MLflow and refuse a step, the end of a path; return the address.

    ``refuses`` is asked before each step.  If ``is_done``, MLflow does the step that is refused.
    """
    with httpx.Client(base_url=mlflow, timeout=30) as client:
        pass_on = FaultyProxy(client)

        @Request.application
        def refuse(request: Request) -> Response:
            is_refused = request.method == "POST" and request.path.endswith(step) and refuses()
            if is_done or not is_refused:
                answer = Response.from_app(pass_on, request.environ)
            return Response(status=503) if is_refused else answer

        with served(refuse) as url:
            yield url


@contextmanager
def relay(port: int) -> Iterator[tuple[str, Callable[[], None]]]:
    """Relay connections to a Redis; yield the address, and what makes those there are fall silent.

    So they do when a router in between forgets them; new ones work.
    """
    connections: list[BaseRequestHandler] = []
    silent: set[BaseRequestHandler] = set()

    class Connection(BaseRequestHandler):
        def handle(self) -> None:
            with suppress(OSError), socket.create_connection(("127.0.0.1", port)) as redis:  # one end is gone
                connections.append(self)
                other = {self.request: redis, redis: self.request}
                while data := [(end, end.recv(65536)) for end in select.select([*other], [], [])[0]]:
                    for end, received in data:
                        if not received:
                            return
                        if self not in silent:
                            other[end].sendall(received)

    with ThreadingTCPServer(("127.0.0.1", 0), Connection) as server:
        server.daemon_threads = True
        threading.Thread(target=server.serve_forever, args=(0.05,), daemon=True).start()
        yield f"redis://127.0.0.1:{server.server_address[1]}/0", lambda: silent.update(connections)
        server.shutdown()
