"""Real proxies in front of MLflow and Redis that can fail on demand."""

import socket
import threading
from contextlib import suppress
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Literal

import httpx

Fault = Literal["", "stop", "refuse", "hang", "trickle", "garble", "flip"]
STATUS = {"stop": 502, "refuse": 401}


class FaultyProxy:
    """Pass requests on to a server, or fail in one of the ways that servers fail."""

    def __init__(self, target: str, fault: Fault = "") -> None:
        self.fault = fault
        self.authorizations: list[str | None] = []
        self._released = threading.Event()
        self._client = httpx.Client(base_url=target, timeout=10)
        proxy = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def _pass_on(self) -> None:
                body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
                proxy.authorizations.append(self.headers["Authorization"])
                if proxy.fault == "hang":
                    proxy._released.wait(60)
                    self.close_connection = True
                    return
                status, content = STATUS.get(proxy.fault, 0), b"<html>not what you asked for</html>"
                if not status:
                    json = {"Content-Type": "application/json"} if body else {}
                    answer = proxy._client.request(self.command, self.path, content=body, headers=json)
                    status = answer.status_code
                    content = content if proxy.fault == "garble" else answer.content
                if proxy.fault == "flip" and "get-artifact" in self.path:
                    content = content[:-1] + b"?"
                self.send_response(status)
                self.send_header("Content-Length", str(len(content)))
                self.end_headers()
                if proxy.fault == "trickle":
                    proxy._trickle(self, content)
                else:
                    self.wfile.write(content)

            do_GET = do_POST = do_DELETE = _pass_on  # noqa: N815 - names of the base class

            def log_message(self, *_: object) -> None:
                """Stay silent."""

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self._server.daemon_threads = True
        self.url = f"http://127.0.0.1:{self._server.server_port}"
        threading.Thread(target=self._server.serve_forever, args=(0.05,), daemon=True).start()

    def _trickle(self, handler: BaseHTTPRequestHandler, content: bytes) -> None:
        """Send a byte every 0.2 s, until healed or until the client has gone."""
        with suppress(OSError):
            for position in range(len(content)):
                handler.wfile.write(content[position : position + 1])
                if self._released.wait(0.2):
                    return

    def heal(self) -> None:
        self.fault = ""
        self._released.set()
        self._released = threading.Event()

    def close(self) -> None:
        self.heal()
        self._server.shutdown()
        self._server.server_close()
        self._client.close()


class Relay:
    """A TCP relay whose connections can fall silent, as when a router in between forgets them."""

    def __init__(self, port: int) -> None:
        self._target = port
        self._silent: set[socket.socket] = set()
        self._open: list[socket.socket] = []
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.url = f"redis://127.0.0.1:{self._listener.getsockname()[1]}/0"
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
        with suppress(OSError):  # closed
            while True:
                client, _ = self._listener.accept()
                server = socket.create_connection(("127.0.0.1", self._target))
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
