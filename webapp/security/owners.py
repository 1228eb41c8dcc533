"""Owners: whoever saves a car in the form may change it later, in the same browser and without an account.

A cookie holds the browser's random id, signed; a car keeps only the id's SHA-256, so that a copy of the
database makes nobody an owner.  A private link carries the same signed id to another browser.
"""

import hmac
import secrets
from hashlib import sha256

from flask import current_app, request, session
from itsdangerous import BadSignature, Signer
from werkzeug.wrappers import Response

from vroom_features.database.queries import StoredVehicle, VehicleFilter
from vroom_features.errors import VehicleNotFoundError
from webapp.security.headers import SAFE_METHODS
from webapp.security.sign_in import bearer_token, csrf, is_operator, require_operator
from webapp.services import services

MAX_AGE_S = 400 * 24 * 3600
"""Browsers keep no cookie for longer."""


def current_owner() -> str | None:
    """Return the owner id of this browser, if it has one."""
    return read_token(request.cookies.get(_cookie_name(), ""))


def read_token(token: str) -> str | None:
    """Return the owner id of a cookie or a private link; None if it was not signed here."""
    try:
        return _signer().unsign(token).decode()
    except BadSignature:
        return None


def token_of(owner: str) -> str:
    return _signer().sign(owner).decode()


def hash_of(owner: str) -> str:
    return sha256(owner.encode()).hexdigest()


def count_cars(owner: str) -> int:
    return services().source.list_vehicles(where=VehicleFilter(owner_hash=hash_of(owner)), page_size=1).total


def owner_to_save(form_key: str) -> str:
    """Return the owner of what this browser saves, a new one unless its id has cars: it may be a revoked one.

    A second request of the same form, as of a double click, gets the same new id.
    """
    known = current_owner()
    if known and count_cars(known):
        return known
    seed = f"{session.get('csrf_token') or secrets.token_hex()} {form_key}"
    return hmac.digest(_key(), seed.encode(), "sha256").hex()[:32]


def with_cookie(response: Response, owner: str) -> Response:
    """Give the browser its owner's cookie, for as long as browsers keep one."""
    response.set_cookie(
        _cookie_name(),
        token_of(owner),
        max_age=MAX_AGE_S,
        httponly=True,
        samesite="Lax",
        secure=current_app.config["SESSION_COOKIE_SECURE"],
    )
    return response


def owns(vehicle: StoredVehicle) -> bool:
    """Return whether this browser saved the vehicle; a program has the rights of its token alone."""
    owner = current_owner() if bearer_token() is None else None
    return owner is not None and hash_of(owner) == vehicle.owner_hash


def may_change(vehicle: StoredVehicle) -> bool:
    """Return whether its owner or the operator asks; they alone see its name."""
    return owns(vehicle) or is_operator()


def require_owner(vehicle_id: int, *, changes: bool = True) -> StoredVehicle:
    """Return the vehicle for its owner or the operator; a cookie needs its CSRF token to change something."""
    vehicle = services().source.get_vehicle(vehicle_id)
    if vehicle is not None and owns(vehicle):
        if request.method not in SAFE_METHODS:
            csrf.protect()
        return vehicle
    require_operator(changes=changes, who="the browser that saved this car, and the operator,")
    if vehicle is None:
        raise VehicleNotFoundError(vehicle_id)
    return vehicle


def _cookie_name() -> str:
    return f"{current_app.config['SESSION_COOKIE_NAME']}-owner"


def _key() -> bytes:
    return str(current_app.config["SECRET_KEY"]).encode()


def _signer() -> Signer:
    return Signer(_key(), salt="owner", key_derivation="hmac", digest_method=sha256)
