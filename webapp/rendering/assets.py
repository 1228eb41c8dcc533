"""What pages are drawn with: styles, scripts, the chart library; read once and served from memory.

Their addresses hold a digest of all of them, so a browser keeps them for good and a new release has new
addresses.  Modules import each other by relative paths, which keeps the digest.  The styles stand in each
page, which waits for them before it first paints, and so for nothing but itself.
"""

import base64
import mimetypes
from hashlib import sha256
from pathlib import Path

from flask import Flask, Response, request
from markupsafe import Markup
from werkzeug.exceptions import NotFound

FOLDER = Path(__file__).parent.parent / "static"
STYLES = ("css/base.css", "css/parts.css", "css/forecast.css", "css/charts.css", "vendor/uPlot.min.css")
"""In the order of the cascade."""
YEAR_S = 365 * 24 * 3600


class Assets:
    """The files by name, and the styles of every page.

    Parameters
    ----------
    folder : Path
        Where they are.
    """

    def __init__(self, folder: Path) -> None:
        paths = sorted(path for path in folder.rglob("*") if path.is_file())
        self._files = {path.relative_to(folder).as_posix(): path.read_bytes() for path in paths}
        self.styles = b"\n".join(self._files.pop(name) for name in STYLES).decode()
        digest = sha256()
        for name, content in sorted(self._files.items()):
            digest.update(b"%d:%d:" % (len(name), len(content)) + name.encode() + content)
        self.digest = digest.hexdigest()[:16]

    @property
    def style_source(self) -> str:
        """What the content security policy calls these very styles."""
        return f"'sha256-{base64.b64encode(sha256(self.styles.encode()).digest()).decode()}'"

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


def install(app: Flask) -> Assets:
    """Serve them; templates find them by ``asset('js/app.js')`` and put ``styles`` in their head."""
    assets = Assets(FOLDER)
    app.add_url_rule("/static/<digest>/<path:name>", "static", assets.answer)
    app.add_template_global(lambda name: f"/static/{assets.digest}/{name}", "asset")
    app.jinja_env.globals["styles"] = Markup(assets.styles)  # noqa: S704 - our own files
    return assets
