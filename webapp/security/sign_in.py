"""The operator: who may delete, materialize, train, promote, roll back and reload.

A person signs in with the password, or by the link that a start prints, which works once; a program sends the
password as a bearer token.  What a person does by cookie also needs the CSRF token; no page can forge a
bearer token.  Password, link and the key that signs cookies are files in VROOM_HOME that only their owner can
read, made at the first start.
"""

import hashlib
import hmac
import logging
import os
import secrets
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

from flask import Flask, g, request, session
from flask_login import LoginManager, UserMixin, current_user, login_user, logout_user
from flask_wtf.csrf import CSRFProtect

from vroom_features.settings import Settings
from webapp.problems import ProblemError
from webapp.security.headers import SAFE_METHODS
from webapp.services import now, services

logger = logging.getLogger(__name__)
SIGN_IN = "auth.sign_in"
SIGN_OUT = "auth.sign_out"
"""Actions in the audit log."""
SIGNED_IN_AT = "signed_in_at"
SESSION_ID = "session_id"
LINK_MAX_AGE_S = 24 * 3600.0

csrf = CSRFProtect()
login_manager = LoginManager()


class Secret(NamedTuple):
    """A secret, and whether this call made it."""

    value: str
    is_new: bool


class SecretFileError(Exception):
    """A file that should hold a secret holds none."""


def secret_in(path: Path) -> Secret:
    """Return the secret kept in a file, made now if there is none.

    Of several processes that start at once, one makes it and all return the same.  `SecretFileError` if the
    file is empty, or holds what no header can carry.
    """
    if path.exists():
        return Secret(_read(path), is_new=False)
    path.parent.mkdir(parents=True, exist_ok=True)
    descriptor, name = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}-")  # mode 0600
    try:
        with os.fdopen(descriptor, "w") as file:
            file.write(secrets.token_urlsafe(24))
            file.flush()
            os.fsync(file.fileno())  # or a power cut could leave an empty file under its name
        path.hardlink_to(name)  # fails where a rename would overwrite the other process's secret
        is_new = True
    except FileExistsError:
        is_new = False
    finally:
        Path(name).unlink()
    return Secret(_read(path), is_new)


def _read(path: Path) -> str:
    secret = path.read_bytes().strip()
    if not secret or not secret.isascii():
        raise SecretFileError(
            f"{path} holds no secret, which is ASCII text: write one into it, or delete it to have one made"
        )
    return secret.decode()


class Operator(UserMixin):  # type: ignore[misc]  # flask-login is not typed
    """The one user, whose id is made of the password: a new password ends every session."""

    def __init__(self, password: str) -> None:
        self._password = password.encode()
        self.id = hashlib.sha256(b"operator:" + self._password).hexdigest()

    def is_password(self, given: str) -> bool:
        """Compare in constant time."""
        return bool(given) and hmac.compare_digest(given.encode(), self._password)


def read_operator(settings: Settings) -> Operator:
    """Return the operator, and print a sign-in link if the password was made just now."""
    if given := settings.operator_password.get_secret_value():
        return Operator(given)
    path = settings.home / "operator-password"
    secret = secret_in(path)
    if secret.is_new:
        token = secret_in(settings.sign_in_token).value
        link = f"{settings.web_url}/sign-in?token={token}"
        logger.warning("operator sign-in link, good once: %s (password in %s)", link, path)
    return Operator(secret.value)


def install(app: Flask, settings: Settings) -> None:
    app.config.update(
        SECRET_KEY=settings.secret_key.get_secret_value() or secret_in(settings.home / "secret-key").value,
        WTF_CSRF_TIME_LIMIT=None,  # as long as the session: a page may stay open
        WTF_CSRF_SSL_STRICT=False,  # it wants a Referer; headers.py checks the Origin
    )
    csrf.init_app(app)
    login_manager.init_app(app)


def name_cookies(app: Flask, database_id: str) -> None:
    """Name cookies by key and database, which all servers of a deployment share: ports share cookies."""
    name = "vroom-" + hashlib.sha256(f"{database_id}:{app.config['SECRET_KEY']}".encode()).hexdigest()[:12]
    app.config.update(SESSION_COOKIE_NAME=name, REMEMBER_COOKIE_NAME=f"{name}-remember")


@login_manager.user_loader  # type: ignore[untyped-decorator]
def load_operator(identity: str) -> Operator | None:
    """Return the operator if the cookie is of today's password, not too old, and was not signed out."""
    age_s = now().timestamp() - session.get(SIGNED_IN_AT, 0.0)
    is_current = 0 <= age_s < services().settings.web_session_hours * 3600
    operator = services().operator
    if not is_current or not hmac.compare_digest(identity, operator.id):
        return None
    session_id = session.get(SESSION_ID, "")
    is_over = not session_id or services().audit_log.holds(action=SIGN_OUT, subject=session_id)
    return None if is_over else operator


def is_operator() -> bool:
    """Return whether the operator sent this request, by cookie or by bearer token; a wrong token is a 401."""
    token = bearer_token()
    if token is None:
        return bool(current_user.is_authenticated)
    if not _is_right(lambda: services().operator.is_password(token)):
        raise ProblemError(
            401, "Wrong token", "the bearer token is not the operator's", WWW_Authenticate="Bearer"
        )
    return True


def require_operator(*, changes: bool = True, who: str = "the signed-in operator") -> None:
    """Raise unless the operator sent this request; a cookie needs its CSRF token as well.

    What changes something, if its method allows, is recorded in the audit log before.
    """
    if not is_operator():
        raise ProblemError(401, "Sign-in needed", f"only {who} may do this", WWW_Authenticate="Bearer")
    if request.method in SAFE_METHODS:
        return
    is_by_token = bearer_token() is not None
    if not is_by_token:  # a browser sends a cookie, and Basic credentials, for any page
        csrf.protect()
    if changes:
        _record("token" if is_by_token else "cookie", request.endpoint or "", request.path)


def may_save() -> bool:
    """Return whether this request may save a vehicle: any while bound to loopback, else the operator's."""
    return _is_saving_open() or is_operator()


def require_saver() -> None:
    if not _is_saving_open():
        require_operator(changes=False)  # the vehicle's row itself has the time of the save


def sign_in_by_password(given: str) -> bool:
    """Sign the operator in if this is the password; 429 if this client guesses too often."""
    return _sign_in("password", lambda: services().operator.is_password(given))


def sign_in_by_link(token: str) -> bool:
    """Sign the operator in if a link of this token was printed lately, and use it up; 429 as above."""
    return _sign_in("link", lambda: _use_link(token))


def _sign_in(how: str, is_right: Callable[[], bool]) -> bool:
    if not _is_right(is_right):
        return False
    session_id = secrets.token_hex(8)
    _record(how, SIGN_IN, session_id)
    session.clear()  # the CSRF token of the visitor's session ends with it
    session[SESSION_ID] = session_id
    session[SIGNED_IN_AT] = now().timestamp()
    login_user(services().operator)
    logger.info("operator signed in from %s", request.remote_addr)
    return True


def sign_out() -> None:
    """End the session; the line in the audit log ends it for copies of its cookie too."""
    if current_user.is_authenticated:
        _record("cookie", SIGN_OUT, session[SESSION_ID])
    logout_user()
    session.clear()


def _is_right(compare: Callable[[], bool]) -> bool:
    """Return whether a guess is right; after too many wrong ones it is refused before it is compared."""
    client = request.remote_addr or ""
    if wait_s := services().counter.guess_wait_s(client):
        raise ProblemError(429, "Too many attempts", "wait before you try again", Retry_After=str(wait_s))
    if compare():
        return True
    logger.info("a wrong password or token from %s", client)
    services().counter.count_guess(client)
    return False


def _use_link(token: str) -> bool:
    path = services().settings.sign_in_token
    try:
        is_fresh = now().timestamp() - path.stat().st_mtime < LINK_MAX_AGE_S
        if not token or not is_fresh or not hmac.compare_digest(token.encode(), path.read_bytes().strip()):
            return False
        path.unlink()  # of several requests at once, one succeeds
    except FileNotFoundError:
        return False
    return True


def bearer_token() -> str | None:
    """Return the token as it was sent; Werkzeug would parse one that contains an equals sign."""
    kind, _, token = request.headers.get("Authorization", "").partition(" ")
    return token.strip() if kind.lower() == "bearer" else None


def _is_saving_open() -> bool:
    settings = services().settings
    return settings.web_open_saving == "yes" or (settings.web_open_saving == "auto" and settings.is_loopback)


def _record(actor: str, action: str, subject: str) -> None:
    services().audit_log.record(
        now(),
        actor=actor,
        action=action,
        subject=subject,
        client=request.remote_addr or "",
        request_id=g.get("request_id", ""),
        reason=request.form.get("reason", ""),
    )
