"""Compression of what has no secret: scripts, lists, and the fleet as visitors see it.

Other pages hold a token beside what a reader typed.  Compressed, their length would tell the token to whoever
can make a browser ask for them with guesses (BREACH).
"""

import zlib
from collections.abc import Iterable, Iterator

from flask import Flask, Response, request
from flask_login import current_user

WITHOUT_SECRETS = {
    "static",
    "fleet.points",
    "fleet.download",
    "vehicles_api.list_vehicles",
    "vehicles_api.list_features",
    "openapi",
}
WITHOUT_SECRETS_FOR_VISITORS = {"fleet.show", "fleet.car"}
"""The operator's pages have a form to sign out."""
GZIP = 31
"""As zlib's window size: with gzip's frame."""


def install(app: Flask) -> None:
    """Compress answers of these views for clients that take gzip."""
    app.after_request(_compress)


def _compress(response: Response) -> Response:
    name = request.endpoint
    if name not in WITHOUT_SECRETS and (
        name not in WITHOUT_SECRETS_FOR_VISITORS or current_user.is_authenticated
    ):
        return response
    response.vary.add("Accept-Encoding")
    if response.status_code == 200 and request.accept_encodings["gzip"]:
        if close := getattr(response.response, "close", None):
            response.call_on_close(close)
        response.direct_passthrough = False
        response.response = _gzip(response.iter_encoded())
        response.content_encoding = "gzip"
        response.headers.pop("Content-Length", None)
        etag, _ = response.get_etag()
        if etag:
            response.set_etag(etag, weak=True)
    return response


def _gzip(chunks: Iterable[bytes]) -> Iterator[bytes]:
    packer = zlib.compressobj(wbits=GZIP)
    for chunk in chunks:
        yield packer.compress(chunk)
    yield packer.flush()
