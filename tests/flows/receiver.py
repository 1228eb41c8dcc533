"""A small HTTP receiver on loopback that keeps what is posted to it."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from threading import Event
from typing import Any

from werkzeug.wrappers import Request, Response

from tests.faults import served


@dataclass
class Receiver:
    """What came, and how to answer: each status once, the last for good; 0 never answers."""

    url: str = ""
    statuses: list[int] = field(default_factory=lambda: [204])
    headers: list[dict[str, str]] = field(default_factory=list)
    documents: list[dict[str, Any]] = field(default_factory=list)
    closing: Event = field(default_factory=Event)

    @property
    def port(self) -> int:
        return int(self.url.split(":")[2].partition("/")[0])

    def answer(self, request: Request) -> Response:
        self.headers.append({"path": request.path, **dict(request.headers)})
        self.documents.append(request.get_json())
        if not (status := self.statuses.pop(0) if len(self.statuses) > 1 else self.statuses[0]):
            self.closing.wait(60)
        return Response(status=status or 204, headers={"Location": self.url})


@contextmanager
def receiving() -> Iterator[Receiver]:
    found = Receiver()
    with served(Request.application(found.answer)) as url:
        found.url = f"{url}/services/T0/s3cret"
        try:
            yield found
        finally:
            found.closing.set()
