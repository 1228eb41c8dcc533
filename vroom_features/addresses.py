"""Addresses of services, which may hold a password, and how HTTP services take a login and refuse one."""

import os
import re
from base64 import b64encode
from pathlib import Path
from urllib.parse import unquote

from pydantic import GetCoreSchemaHandler
from pydantic_core import CoreSchema, core_schema

ENCODE = "in a user and a password write @ as %40, / as %2F, ? as %3F, # as %23 and [ as %5B"
_PARTS = re.compile(
    r"(?P<scheme>(?:[a-z][a-z0-9+.-]*://)?)(?:(?P<userinfo>[^/?#]*)@)?"
    r"(?P<host>[^/?#@]*)(?P<path>[^?#]*)(?P<query>.*)",
    re.IGNORECASE | re.DOTALL,
)


class ServiceAddress:
    """Address of a service: shown without user, password, query and fragment.

    It is no ``str``, so that it cannot be shown whole by accident.  Text, ``repr`` and JSON have the public
    part; ``url`` is the whole address, for the client that connects.

    Parameters
    ----------
    url : str, Path or ServiceAddress
        A URL, or the path of a folder.

    Examples
    --------
    >>> address = ServiceAddress("postgresql://user:p%40ss@db.internal:5432/vroom?sslmode=require")
    >>> address
    ServiceAddress('postgresql://db.internal:5432/vroom')
    >>> address.credentials
    ('user', 'p@ss')
    >>> f"{ServiceAddress('redis://:pa/ss@host/0')}, for it is not clear where the password ends"
    'redis://..., for it is not clear where the password ends'
    """

    __slots__ = ("url",)

    def __init__(self, url: "str | Path | ServiceAddress") -> None:
        self.url: str = url.url if isinstance(url, ServiceAddress) else str(url)

    @property
    def credentials(self) -> tuple[str, str] | None:
        """User and password, decoded; None where the address has neither."""
        user, _, password = self._parts()["userinfo"].partition(":")
        return (unquote(user), unquote(password)) if user or password else None

    @property
    def is_unclear(self) -> bool:
        """Whether an @ after the host may belong to a password that is not encoded."""
        parts = self._parts()
        return "@" in parts["path"] + parts["query"] and (bool(parts["userinfo"]) or ":" in parts["host"])

    def _parts(self) -> dict[str, str]:
        found = _PARTS.fullmatch(self.url)
        return found.groupdict(default="") if found else {}  # the pattern matches any text

    def __str__(self) -> str:
        if self.url.startswith(("/", ".")):  # a folder
            return self.url
        parts = self._parts()
        return parts["scheme"] + ("..." if self.is_unclear else parts["host"] + parts["path"])

    def __repr__(self) -> str:
        return f"ServiceAddress({str(self)!r})"

    def __bool__(self) -> bool:
        return bool(self.url)

    def __eq__(self, other: object) -> bool:
        return self.url == other.url if isinstance(other, ServiceAddress) else NotImplemented

    def __hash__(self) -> int:
        return hash(self.url)

    @classmethod
    def __get_pydantic_core_schema__(cls, _source: object, _handler: GetCoreSchemaHandler) -> CoreSchema:
        return core_schema.no_info_after_validator_function(
            cls,
            core_schema.union_schema([core_schema.is_instance_schema(cls), core_schema.str_schema()]),
            serialization=core_schema.to_string_ser_schema(when_used="json"),
        )


def mlflow_headers(address: ServiceAddress) -> dict[str, str]:
    """Return the headers that sign in to MLflow, by its address or MLflow's own variables."""
    user, password, token = (
        os.environ.get(f"MLFLOW_TRACKING_{name}", "") for name in ("USERNAME", "PASSWORD", "TOKEN")
    )
    return _headers(address, f"{user}:{password}" if user else "", token)


def prefect_headers(address: ServiceAddress) -> dict[str, str]:
    """Return the headers that sign in to Prefect, by its address or Prefect's own variables."""
    login, key = (os.environ.get(f"PREFECT_API_{name}", "") for name in ("AUTH_STRING", "KEY"))
    return _headers(address, login, key)


def _headers(address: ServiceAddress, login: str, token: str) -> dict[str, str]:
    login = ":".join(address.credentials or ()) or login
    if login:
        return {"Authorization": f"Basic {b64encode(login.encode()).decode()}"}
    return {"Authorization": f"Bearer {''.join(token.split())}"} if token else {}


SERVICES = {
    "MLflow": (
        "VROOM_MLFLOW_URI",
        "MLFLOW_TRACKING_USERNAME and MLFLOW_TRACKING_PASSWORD, or MLFLOW_TRACKING_TOKEN",
    ),
    "Prefect": ("VROOM_PREFECT_URL", "PREFECT_API_AUTH_STRING or PREFECT_API_KEY"),
}
"""The setting of a service's address, and the variables of a login."""


def refusal(service: str, status: int, content: bytes) -> str | None:
    """Return why an answer over HTTP is not one of a service; None if it may be.

    Examples
    --------
    >>> refusal("MLflow", 200, b"<!doctype html>")
    'MLflow answers with a web page (200): is VROOM_MLFLOW_URI the address of MLflow?'
    """
    setting, login = SERVICES[service]
    if status == 401:
        return f"{service} refused the user name and password (401): set {login}"
    if status == 403 and not content.startswith(b"{"):
        return f"{service} does not allow this (403): has the user of {login} the right to it?"
    is_this = f"is {setting} the address of {service}?"
    if 300 <= status < 400:
        return f"{service} sends to another page, perhaps to sign in ({status}): {is_this}"
    if content.lstrip()[:1] == b"<":
        return f"{service} answers with a web page ({status}): {is_this}"
    if status == 404 and (not content.startswith(b"{") or b'"Not Found"' in content):
        return f"{service} has no such path (404): {is_this}"
    return None
