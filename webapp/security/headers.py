"""Headers, cookies and origins: what protects people from pages of other sites."""

import re
import secrets
from io import BytesIO
from typing import IO
from urllib.parse import urlsplit

from flask import Flask, Request, Response, g, request
from werkzeug.exceptions import RequestEntityTooLarge
from werkzeug.utils import cached_property

from vroom_features.settings import Settings
from webapp.problems import ProblemError
from webapp.security.hosts import host_rule, hostname

BODY_MAX_BYTES = 4 * 1024 * 1024
SAFE_METHODS = {"GET", "HEAD", "OPTIONS"}
REQUEST_ID = re.compile(r"[\w.:-]{1,64}", re.ASCII)


class WholeRequest(Request):
    """A request whose body is read whole, or refused."""

    @cached_property
    def stream(self) -> IO[bytes]:
        """Return the body; werkzeug would silently cut one that comes in chunks at the limit."""
        if self.content_length is not None:
            return super().stream
        body = super().stream.read()
        if len(body) == self.max_content_length and self.input_stream.read(1):
            raise RequestEntityTooLarge
        return BytesIO(body)


def events_url(settings: Settings) -> str:
    """Return where this request's browser finds the event streams: the same host unless set otherwise."""
    if settings.web_events_url:
        return settings.web_events_url
    name = hostname(request.host) or settings.web_host
    host = f"[{name}]" if ":" in name else name
    return f"{request.scheme}://{host}:{settings.web_events_port}/events"


def _events_source(settings: Settings) -> str:
    """Return the origin of the event streams for the content security policy, whatever a request says."""
    if settings.web_events_url:
        parts = urlsplit(settings.web_events_url)
        return f"{parts.scheme}://{parts.netloc}" if parts.netloc else ""
    # A policy cannot name an IPv6 address.
    is_named = settings.is_loopback and ":" not in settings.web_host
    hosts = ["127.0.0.1", "localhost"] if is_named else ["*"]
    return " ".join(f"{host}:{settings.web_events_port}" for host in hosts)


def install(app: Flask, settings: Settings, *, style_source: str) -> None:
    """Set headers and cookie flags, and refuse foreign hosts and origins, and a NUL in a query.

    ``style_source`` is the source of styles for the content security policy.
    """
    app.request_class = WholeRequest
    app.config.update(
        MAX_CONTENT_LENGTH=BODY_MAX_BYTES,
        SESSION_COOKIE_SAMESITE="Lax",
        SESSION_COOKIE_SECURE=settings.web_tls,
    )
    policy = {
        "default-src": "'none'",
        "script-src": "'self'",
        "style-src": style_source,
        "img-src": "'self' data:",
        "font-src": "'self'",
        "connect-src": f"'self' {_events_source(settings)}",
        "manifest-src": "'self'",
        "form-action": "'self'",
        "base-uri": "'none'",
        "frame-ancestors": "'none'",
    }
    security_headers = {
        "Permissions-Policy": "browsing-topics=()",
        "X-Frame-Options": "DENY",
        "X-Content-Type-Options": "nosniff",
        "Content-Security-Policy": "; ".join(f"{name} {sources}" for name, sources in policy.items()),
        "Referrer-Policy": "same-origin",
    }

    is_trusted = host_rule(settings)

    def refuse_foreign_hosts() -> None:
        if not is_trusted(request.host):
            problem = f"Host {request.host!r} is not trusted. VROOM_WEB_TRUSTED_HOSTS has the names that are."
            raise ProblemError(400, "Bad Request", problem)

    def send_headers(response: Response) -> Response:
        for name, value in security_headers.items():
            response.headers.setdefault(name, value)
        if settings.web_tls and "https" in {request.scheme, request.headers.get("X-Forwarded-Proto")}:
            response.headers["Strict-Transport-Security"] = "max-age=31556926; includeSubDomains"
        response.headers["X-Request-ID"] = g.get("request_id", "")
        return response

    app.before_request(_set_request_id)
    app.before_request(refuse_foreign_hosts)
    app.before_request(_refuse_foreign_origins)
    app.before_request(_refuse_nul)
    app.after_request(send_headers)


def _set_request_id() -> None:
    given = request.headers.get("X-Request-ID", "")
    g.request_id = given if REQUEST_ID.fullmatch(given) else secrets.token_hex(8)


def _refuse_foreign_origins() -> None:
    """Refuse what a browser sends for another site's page, if it could change something."""
    page = request.headers.get("Origin", request.headers.get("Referer"))
    if page is None or request.method in SAFE_METHODS:
        return
    scheme, _, rest = page.lower().partition("://")
    authority, host = rest.partition("/")[0], request.host.lower()
    default = {"http": ":80", "https": ":443"}.get(scheme, "")
    if authority and authority.removesuffix(default) == host.removesuffix(default):
        return
    problem = "this request comes from a page of another site"
    if (name := hostname(authority)) is not None and name == hostname(host):
        problem = (
            f"the page is at {authority} and its request came for {host}: a proxy that drops the port has to"
            " pass it on, in nginx by proxy_set_header Host $http_host"
        )
    raise ProblemError(403, "Foreign origin", problem)


def _refuse_nul() -> None:
    """Refuse the one character that PostgreSQL keeps in no text, before it is searched for."""
    if any("\0" in value for values in request.args.listvalues() for value in values):
        raise ProblemError(422, "Invalid input", "a NUL character (%00) stands in the query of this address")
