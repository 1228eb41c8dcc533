"""A small HTTP receiver on loopback that keeps what is posted to it."""

import json
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from threading import Event, Thread
from typing import Any

Json = dict[str, Any]


@dataclass
class Receiver:
    """What came, and how to answer: each status once, the last for good; 0 never answers."""

    port: int
    statuses: list[int] = field(default_factory=lambda: [204])
    headers: list[dict[str, str]] = field(default_factory=list)
    documents: list[Json] = field(default_factory=list)
    closing: Event = field(default_factory=Event)

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}/services/T0/s3cret"

    def next_status(self) -> int:
        return self.statuses.pop(0) if len(self.statuses) > 1 else self.statuses[0]


@contextmanager
def receiving() -> Iterator[Receiver]:
    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers["Content-Length"]))
            found.headers.append({"path": self.path, **dict(self.headers)})
            found.documents.append(json.loads(body))
            if not (status := found.next_status()):
                found.closing.wait(60)
                return
            self.send_response(status)
            self.send_header("Location", found.url)
            self.end_headers()

        def log_message(self, format: str, *args: object) -> None: ...

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        found = Receiver(server.server_port)
        Thread(target=server.serve_forever, daemon=True).start()
        try:
            yield found
        finally:
            found.closing.set()
            server.shutdown()
