"""Pages that wait for another service: the reader sees their head meanwhile."""

from collections.abc import Iterator
from typing import Any

from flask import Response, stream_template

PAUSE = "\f"
"""What a template writes, as ``{{ pause }}``, before it first needs something slow; white space in HTML."""


def page_in_parts(template: str, **context: Any) -> Response:
    """Answer with a page up to its pause at once, and with the rest when it is there.

    The first part is made before the answer begins, so what it does to the session is still sent.

    Parameters
    ----------
    template : str
        One that writes ``{{ pause }}``, and calls what is slow only after it.
    **context
        Of the template.  What is slow is given as a function.
    """
    chunks = stream_template(template, pause=PAUSE, **context)
    head: list[str] = []
    for chunk in chunks:
        head.append(chunk)
        if chunk == PAUSE:
            break

    def parts() -> Iterator[str]:
        yield "".join(head)
        yield "".join(chunks)

    return Response(parts(), content_type="text/html; charset=utf-8")
