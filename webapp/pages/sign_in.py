"""``/sign-in`` and ``/sign-out``."""

import re

from flask import Blueprint, flash, redirect, render_template, request, url_for
from werkzeug.wrappers import Response

from webapp.security import sign_in as auth

LOCAL_TARGET = re.compile(r"/(?![/\\])[^\x00-\x20\\]*")
"""A path of this site: no host, and no control character that a URL parser would drop to find one."""

bp = Blueprint("sign_in", __name__)


@bp.route("/sign-in", methods=["GET", "POST"])
def show() -> Response | str | tuple[str, int]:
    """Ask for the password, or take the token of the link printed at a start."""
    token = request.args.get("token")
    target = request.values.get("next", "")
    error = None
    if token is not None and request.method == "GET":  # HEAD only checks the link, POST sends the password
        if auth.sign_in_by_link(token):
            flash("You are signed in as the operator. The link works once and is used up.", "good")
            return redirect(url_for("forecast.show"))
        error = "This sign-in link is not valid."
    elif password := request.form.get("password"):
        if auth.sign_in_by_password(password):
            return redirect(
                request.script_root + target if LOCAL_TARGET.fullmatch(target) else url_for("forecast.show")
            )
        error = "That is not the operator's password."
    return render_template("sign_in/show.html", next=target, error=error), 401 if error else 200


@bp.post("/sign-out")
def sign_out() -> Response:
    auth.sign_out()
    return redirect(url_for("forecast.show"))
