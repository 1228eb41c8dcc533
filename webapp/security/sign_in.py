"""The operator: who may delete, materialize, train, promote, roll back and reload.

A person signs in with the password, or by the link that a start prints, which works once; a program sends the
password as a bearer token.  What a person does by cookie also needs the CSRF token; no page can forge a
bearer token.
"""

import hmac
import logging
import secrets

from flask import Flask, g, request, session
from flask_login import LoginManager, UserMixin, current_user, login_user, logout_user
from flask_wtf.csrf import CSRFProtect

from webapp.problems import ProblemError
from webapp.security.guards import guarded_by
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


class Operator(UserMixin):  # type: ignore[misc]  # flask-login is not typed
    """The one user.  The id changes with the password, so that a new password ends every session."""

    def __init__(self, identity: str) -> None:
        self.id = identity


def install(app: Flask) -> None:
    """Set up sign-in."""
    csrf.init_app(app)
    login_manager.init_app(app)


@login_manager.user_loader  # type: ignore[untyped-decorator]
def load_operator(identity: str) -> Operator | None:
    """Return the operator if the cookie is of today's password, not too old, and was not signed out."""
    age_s = now().timestamp() - session.get(SIGNED_IN_AT, 0.0)
    is_current = 0 <= age_s < services().settings.web_session_hours * 3600
    if not is_current or not hmac.compare_digest(identity, services().operator.identity):
        return None
    session_id = session.get(SESSION_ID, "")
    is_over = not session_id or services().audit_log.holds(action=SIGN_OUT, subject=session_id)
    return None if is_over else Operator(identity)


def is_operator() -> bool:
    """Tell whether this request comes from the operator, by cookie or by bearer token.

    Raises
    ------
    ProblemError
        If a bearer token came and is wrong, or this client guesses too often.
    """
    token = _bearer_token()
    if token is not None:
        refuse_frequent_guesses()
        if not is_password(token):
            count_wrong_guess()
            raise ProblemError(
                401, "Wrong token", "the bearer token is not the operator's", WWW_Authenticate="Bearer"
            )
        return True
    return bool(current_user.is_authenticated)


def require_operator(*, changes: bool = True) -> None:
    """Raise unless the operator asks; a cookie needs its CSRF token as well.

    Parameters
    ----------
    changes : bool
        Whether this request, if its method allows, changes something: then it is written down before.
    """
    if not is_operator():
        raise ProblemError(
            401, "Sign-in needed", "only the signed-in operator may do this", WWW_Authenticate="Bearer"
        )
    if request.method in SAFE_METHODS:
        return
    by_token = _bearer_token() is not None
    if not by_token:  # a browser sends a cookie, and Basic credentials, for any page
        csrf.protect()
    if changes:
        write_down("token" if by_token else "cookie", request.endpoint or "")


def _bearer_token() -> str | None:
    """Return the token as it was sent; Werkzeug takes one with an equals sign inside for parameters."""
    kind, _, token = request.headers.get("Authorization", "").partition(" ")
    return token.strip() if kind.lower() == "bearer" else None


def may_save() -> bool:
    """Tell whether this request may save a vehicle: anyone while bound to loopback, else the operator."""
    return _saving_is_open() or is_operator()


def require_saver() -> None:
    """Raise unless this request may save a vehicle."""
    if not _saving_is_open():
        require_operator(changes=False)  # the vehicle's row itself says when it was saved


def _saving_is_open() -> bool:
    settings = services().settings
    return settings.web_open_saving == "yes" or (settings.web_open_saving == "auto" and settings.is_loopback)


operator_required = guarded_by(require_operator)
"""Refuses everyone but the operator, and forged requests in the operator's name."""
saver_required = guarded_by(require_saver)
"""Refuses whoever may not save."""


def enter() -> None:
    """Begin a session of the operator, of a new id and with a new CSRF token."""
    session_id = secrets.token_hex(8)
    write_down("password", SIGN_IN, session_id)
    session.clear()
    session[SESSION_ID] = session_id
    session[SIGNED_IN_AT] = now().timestamp()
    login_user(Operator(services().operator.identity))
    logger.info("operator signed in from %s", request.remote_addr)


def leave() -> None:
    """End the session, for copies of its cookie too: the line in the audit log is what ends it."""
    if current_user.is_authenticated:
        write_down("cookie", SIGN_OUT, session[SESSION_ID])
    logout_user()
    session.clear()


def refuse_frequent_guesses() -> None:
    """Refuse whoever guessed wrong too often; to compare before would tell whether this guess is right."""
    wait_s = services().counter.guess_wait_s(request.remote_addr or "")
    if wait_s:
        raise ProblemError(429, "Too many attempts", "wait before you try again", Retry_After=str(wait_s))


def count_wrong_guess() -> None:
    """Count a wrong password, token or link against this client."""
    logger.info("a wrong password or token from %s", request.remote_addr)
    services().counter.count_guess(request.remote_addr or "")


def write_down(actor: str, action: str, subject: str | None = None) -> None:
    """Add a line to the audit log, of this path unless it is about something else."""
    services().audit_log.record(
        now(),
        actor=actor,
        action=action,
        subject=subject or request.path,
        client=request.remote_addr or "",
        request_id=g.get("request_id", ""),
    )


def is_password(given: str) -> bool:
    """Tell whether this is the operator's password."""
    return bool(given) and hmac.compare_digest(given.encode(), services().operator.password.encode())


def is_from_link(given: str) -> bool:
    """Tell whether this is the token of a link that was printed lately, and use it up."""
    path = services().settings.sign_in_token
    try:
        is_fresh = now().timestamp() - path.stat().st_mtime < LINK_MAX_AGE_S
        if not given or not is_fresh or not hmac.compare_digest(given.encode(), path.read_bytes().strip()):
            return False
        path.unlink()  # of several who come at once, one can
    except FileNotFoundError:
        return False
    return True
