"""What pages are drawn with: styles, scripts, the chart library; read once and served from memory.

Their addresses hold a digest of all of them, so a browser keeps them for good and a new release has new
addresses.  Modules import each other by relative paths, which keeps the digest.  The style sheets come as
one: a page waits for its styles before it first paints, and one answer is sooner there than five.
"""

import mimetypes
from hashlib import sha256
from pathlib import Path

from flask import Flask, Response, request
from werkzeug.exceptions import NotFound

FOLDER = Path(__file__).parent / "static"
STYLES = ("css/base.css", "css/parts.css", "css/forecast.css", "css/charts.css", "vendor/uPlot.min.css")
"""In the order of the cascade."""
STYLE_SHEET = "site.css"
YEAR_S = 365 * 24 * 3600


class Assets:
    """The files by name.

    Parameters
    ----------
    folder : Path
        Where they are.
    """

    def __init__(self, folder: Path) -> None:
        paths = sorted(path for path in folder.rglob("*") if path.is_file())
        self._files = {path.relative_to(folder).as_posix(): path.read_bytes() for path in paths}
        self._files[STYLE_SHEET] = b"\n".join(self._files.pop(name) for name in STYLES)
        digest = sha256()
        for name, content in sorted(self._files.items()):
            digest.update(b"%d:%d:" % (len(name), len(content)) + name.encode() + content)
        self.digest = digest.hexdigest()[:16]

    def answer(self, digest: str, name: str) -> Response:
        """Return a file; under another release's digest it is today's, and not kept."""
        content = self._files.get(name)
        if content is None:
            raise NotFound
        content_type, _ = mimetypes.guess_type(name)
        response = Response(content, mimetype=content_type)
        if digest == self.digest:
            response.cache_control.public = True
            response.cache_control.max_age = YEAR_S
            response.cache_control.immutable = True
        else:
            response.cache_control.no_cache = True
        response.set_etag(f"{self.digest}-{name}")
        response.make_conditional(request)
        return response


def install(app: Flask) -> None:
    """Serve them, and let templates find them by ``asset('js/app.js')``."""
    assets = Assets(FOLDER)
    app.add_url_rule("/static/<digest>/<path:name>", "static", assets.answer)
    app.add_template_global(lambda name: f"/static/{assets.digest}/{name}", "asset")
