"""Real proxies in front of MLflow and Redis that can fail on demand."""

import socket
import threading
from collections.abc import Callable
from contextlib import suppress
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
        self.is_trickling = False
        self.change: Change | None = None
        self._released = threading.Event()
        self._client = httpx.Client(base_url=target, timeout=10)
        proxy = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def _pass_on(self) -> None:
                body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
                if proxy.is_hanging:
                    proxy._released.wait(60)
                    self.close_connection = True
                    return
                status, content = proxy.status, b"this proxy fails"
                if status is None:
                    json = {"Content-Type": "application/json"} if body else {}
                    answer = proxy._client.request(self.command, self.path, content=body, headers=json)
                    status, content = answer.status_code, answer.content
                    if proxy.change is not None:
                        content = proxy.change(self.path, content)
                self.send_response(status)
                self.send_header("Content-Length", str(len(content)))
                self.end_headers()
                if proxy.is_trickling:
                    proxy._trickle(self, content)
                else:
                    self.wfile.write(content)

            do_GET = do_POST = do_DELETE = _pass_on  # noqa: N815 - names of the base class

            def log_message(self, *_: Any) -> None:
                """Stay silent."""

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self._server.daemon_threads = True
        self.url = f"http://127.0.0.1:{self._server.server_port}"
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.05,), daemon=True)
        self._thread.start()

    def _trickle(self, handler: BaseHTTPRequestHandler, content: bytes) -> None:
        """Send a byte every 0.2 s, until healed or until the client has gone."""
        with suppress(OSError):
            for position in range(len(content)):
                handler.wfile.write(content[position : position + 1])
                if self._released.wait(0.2):
                    return

    def heal(self) -> None:
        self.status, self.is_hanging, self.is_trickling, self.change = None, False, False, None
        self._released.set()
        self._released = threading.Event()

    def close(self) -> None:
        self.heal()
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()
        self._client.close()


class Relay:
    """A TCP relay whose connections can fall silent, as when a router in between forgets them.

    Parameters
    ----------
    port : int
        Of the real server, on loopback.
    """

    def __init__(self, port: int) -> None:
        self._target = port
        self._silent: set[socket.socket] = set()
        self._open: list[socket.socket] = []
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.port = int(self._listener.getsockname()[1])
        threading.Thread(target=self._accept, daemon=True).start()

    def silence(self) -> None:
        """Pass nothing on any more on the connections there are; new ones work."""
        self._silent |= set(self._open)

    def close(self) -> None:
        for sock in (self._listener, *self._open):
            with suppress(OSError):  # closed by its peer
                sock.shutdown(socket.SHUT_RDWR)
            sock.close()

    def _accept(self) -> None:
        while True:
            try:
                client, _ = self._listener.accept()
                server = socket.create_connection(("127.0.0.1", self._target))
            except OSError:
                return
            self._open += (client, server)
            for source, target in ((client, server), (server, client)):
                threading.Thread(target=self._pass_on, args=(source, target), daemon=True).start()

    def _pass_on(self, source: socket.socket, target: socket.socket) -> None:
        with suppress(OSError):  # one end is gone
            while data := source.recv(65536):
                if source not in self._silent:
                    target.sendall(data)
            if source not in self._silent:
                target.shutdown(socket.SHUT_WR)
