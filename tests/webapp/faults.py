"""A real HTTP proxy in front of MLflow that can be told to misbehave."""

import threading
from collections.abc import Callable
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import httpx

Change = Callable[[str, bytes], bytes]


class FaultyProxy:
    """Pass requests on to a server, or fail in one of the ways that servers fail.

    Parameters
    ----------
    target : str
        Address of the real server.
    """

    def __init__(self, target: str) -> None:
        self.status: int | None = None
        self.is_hanging = False
        self.change: Change | None = None
        self.num_requests = 0
        self._released = threading.Event()
        self._client = httpx.Client(base_url=target, timeout=10)
        proxy = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_GET(self) -> None:
                proxy.num_requests += 1
                if proxy.is_hanging:
                    proxy._released.wait(60)
                    self.close_connection = True
                    return
                status, content = proxy.status, b"proxy was told to fail"
                if status is None:
                    answer = proxy._client.get(self.path)
                    status, content = answer.status_code, answer.content
                    if proxy.change is not None:
                        content = proxy.change(self.path, content)
                self.send_response(status)
                self.send_header("Content-Length", str(len(content)))
                self.end_headers()
                self.wfile.write(content)

            def log_message(self, *_: Any) -> None:
                """Stay silent."""

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self._server.daemon_threads = True
        self.url = f"http://127.0.0.1:{self._server.server_port}"
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.05,), daemon=True)
        self._thread.start()

    def heal(self) -> None:
        """Behave again."""
        self.status, self.is_hanging, self.change = None, False, None
        self._released.set()
        self._released = threading.Event()

    def close(self) -> None:
        """Stop."""
        self.heal()
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()
        self._client.close()
