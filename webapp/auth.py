"""The operator: who may delete, materialize, train, promote, roll back and reload.

A person signs in with the password, or by the link printed at first start; a program sends the password as a
bearer token.  What a person does by cookie also needs the CSRF token; no page can forge a bearer token.
"""

import hashlib
import hmac
import logging
from collections.abc import Callable
from functools import wraps
from typing import ParamSpec, TypeVar

from flask import Blueprint, Flask, current_app, g, redirect, render_template, request, session, url_for
from flask_login import LoginManager, UserMixin, current_user, login_user, logout_user
from flask_wtf import FlaskForm
from flask_wtf.csrf import CSRFProtect
from werkzeug.wrappers import Response
from wtforms import HiddenField, PasswordField
from wtforms.validators import InputRequired

from vroom_features.settings import Settings
from webapp.clock import now
from webapp.problems import ProblemError
from webapp.secrets_file import secret_in
from webapp.security import SAFE_METHODS
from webapp.services import services

logger = logging.getLogger(__name__)
P = ParamSpec("P")
R = TypeVar("R")
SIGNED_IN_AT = "signed_in_at"

auth = Blueprint("auth", __name__)
csrf = CSRFProtect()
login_manager = LoginManager()


class Operator(UserMixin):  # type: ignore[misc]  # flask-login is not typed
    """The one user.  The id changes with the password, so that a new password ends every session."""

    def __init__(self, identity: str) -> None:
        self.id = identity


class SignInForm(FlaskForm):  # type: ignore[misc]  # flask-wtf is not typed
    """Password, and where to go afterwards."""

    password = PasswordField("Operator password", validators=[InputRequired()])
    next = HiddenField()


def install(app: Flask, settings: Settings) -> None:
    """Set up sign-in, and print the sign-in link when the password was made just now."""
    if given := settings.operator_password.get_secret_value():
        password = given
    else:
        path = settings.home / "operator-password"
        secret = secret_in(path)
        password = secret.value
        if secret.is_new:
            link = f"http://{settings.web_host}:{settings.web_port}/sign-in?token={password}"
            logger.warning("operator sign-in link, shown once: %s (password in %s)", link, path)
    app.extensions["vroom-operator"] = (
        password,
        hashlib.sha256(b"operator:" + password.encode()).hexdigest(),
    )
    csrf.init_app(app)
    login_manager.init_app(app)
    login_manager.login_view = "auth.sign_in"
    app.register_blueprint(auth)


@login_manager.user_loader  # type: ignore[untyped-decorator]
def load_operator(identity: str) -> Operator | None:
    """Return the operator if the cookie was made with today's password, and not too long ago."""
    age_s = now().timestamp() - session.get(SIGNED_IN_AT, 0.0)
    is_current = 0 <= age_s < services().settings.web_session_hours * 3600
    return Operator(identity) if is_current and hmac.compare_digest(identity, _operator()[1]) else None


def is_operator() -> bool:
    """Tell whether this request comes from the operator, by cookie or by bearer token.

    Raises
    ------
    ProblemError
        If a bearer token came and is wrong, or this client guesses too often.
    """
    authorization = request.authorization
    if authorization is not None and authorization.type == "bearer":
        if not _is_password(authorization.token or ""):
            _count_attempt()
            raise ProblemError(
                401, "Wrong token", "the bearer token is not the operator's", WWW_Authenticate="Bearer"
            )
        return True
    return bool(current_user.is_authenticated)


def operator_required(view: Callable[P, R]) -> Callable[P, R]:
    """Refuse everyone but the operator, and forged requests in the operator's name."""

    @wraps(view)
    def guarded(*args: P.args, **kwargs: P.kwargs) -> R:
        require_operator()
        return view(*args, **kwargs)

    return guarded


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
    by_token = request.authorization is not None and request.authorization.type == "bearer"
    if not by_token:  # a browser sends a cookie, and Basic credentials, for any page
        csrf.protect()
    if changes:
        _write_down("token" if by_token else "cookie", request.endpoint or "")


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


@auth.route("/sign-in", methods=["GET", "POST"])
def sign_in() -> Response | str | tuple[str, int]:
    """Ask for the password, or take it from the link printed at first start."""
    form = SignInForm(next=request.args.get("next", ""))
    token = request.args.get("token")
    if token is not None:
        _count_attempt()
        if _is_password(token):
            return _enter("")
        return render_template("sign_in.html", form=form, error="This sign-in link is not valid."), 401
    if form.validate_on_submit():
        _count_attempt()
        if _is_password(form.password.data):
            return _enter(form.next.data or "")
        return render_template("sign_in.html", form=form, error="That is not the operator's password."), 401
    return render_template("sign_in.html", form=form, error=None)


@auth.post("/sign-out")
def sign_out() -> Response:
    """End the session."""
    if current_user.is_authenticated:
        _write_down("cookie", "auth.sign_out")
    logout_user()
    session.clear()
    return redirect(url_for("pages.forecast"))


def _enter(target: str) -> Response:
    _write_down("password", "auth.sign_in")
    session.clear()  # with it goes the CSRF token of before
    session[SIGNED_IN_AT] = now().timestamp()
    login_user(Operator(_operator()[1]))
    logger.info("operator signed in from %s", request.remote_addr)
    # A path of this site only: neither another host nor a scheme.
    is_local = target.startswith("/") and not target.startswith(("//", "/\\"))
    return redirect(target if is_local else url_for("pages.forecast"))


def _count_attempt() -> None:
    """Count a try at the password or token, and refuse whoever tries too often."""
    logger.info("a try at the password or token from %s", request.remote_addr)
    if not services().counter.allows_attempt(request.remote_addr or ""):
        raise ProblemError(429, "Too many attempts", "wait before you try again", Retry_After="60")


def _write_down(actor: str, action: str) -> None:
    """Add a line to the audit log."""
    services().audit_log.record(
        now(),
        actor=actor,
        action=action,
        subject=request.path,
        client=request.remote_addr or "",
        request_id=g.get("request_id", ""),
    )


def _operator() -> tuple[str, str]:
    found: tuple[str, str] = current_app.extensions["vroom-operator"]
    return found


def _is_password(given: str) -> bool:
    return hmac.compare_digest(given.encode(), _operator()[0].encode())
