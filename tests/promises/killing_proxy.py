"""A proxy in front of MLflow that kills a process at a request of its own choice."""

import os
import signal
import subprocess
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Literal

import httpx

Moment = Literal["before", "after"]
ALIAS = "registered-models/alias"


@contextmanager
def proxy_that_kills(target: str, moment: Moment, victim: "list[subprocess.Popen[bytes]]") -> Iterator[str]:
    """Pass requests on to MLflow; kill the victim before or after the alias of a model moves.

    Parameters
    ----------
    target : str
        MLflow's address.
    moment : {'before', 'after'}
        Whether the request that moves the alias still reaches MLflow.
    victim : list of one subprocess.Popen
        The process, once it was started.
    """

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def _pass_on(self) -> None:
            body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
            moves_alias = self.command == "POST" and self.path.partition("?")[0].endswith(ALIAS)
            if moves_alias and moment == "before":
                os.kill(victim[0].pid, signal.SIGKILL)
                return
            headers = {name: value for name, value in self.headers.items() if name.lower() != "host"}
            answer = client.request(self.command, self.path, content=body, headers=headers)
            if moves_alias:
                os.kill(victim[0].pid, signal.SIGKILL)
                return
            self.send_response(answer.status_code)
            self.send_header("Content-Type", answer.headers.get("Content-Type", "application/json"))
            self.send_header("Content-Length", str(len(answer.content)))
            self.end_headers()
            self.wfile.write(answer.content)

        do_GET = do_POST = do_PUT = do_PATCH = do_DELETE = _pass_on  # noqa: N815 - names of the base class

        def log_message(self, *_: object) -> None:
            """Stay silent."""

    with httpx.Client(base_url=target, timeout=30) as client:
        server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        server.daemon_threads = True
        threading.Thread(target=server.serve_forever, args=(0.05,), daemon=True).start()
        try:
            yield f"http://127.0.0.1:{server.server_port}"
        finally:
            server.shutdown()
            server.server_close()
