"""Addresses of services, which may hold a password, and the checks of addresses and names in settings.

No error message repeats an address.
"""

import os
import re
from base64 import b64encode
from collections.abc import Collection
from pathlib import Path
from typing import Annotated
from urllib.parse import parse_qsl, unquote, urlsplit

from pydantic import AfterValidator, BeforeValidator, GetCoreSchemaHandler, SecretStr
from pydantic_core import CoreSchema, core_schema
from sqlalchemy import URL, make_url
from sqlalchemy.exc import ArgumentError

NAME_MAX = 256
NOT_IN_A_NAME = frozenset("/\\:'\"`")
ENCODE = "in a user and a password write @ as %40, / as %2F, ? as %3F, # as %23 and [ as %5B"
REDIS_SCHEMES = ("redis", "rediss", "redis+cluster", "rediss+cluster", "unix")
REDIS_OPTIONS = {
    **dict.fromkeys(("username", "password", "client_name", "ssl_password"), ".*"),
    **dict.fromkeys(("ssl_ca_certs", "ssl_ca_path", "ssl_certfile", "ssl_keyfile"), ".+"),
    "db": "[0-9]+",
    "protocol": "[23]",
    "ssl_cert_reqs": "none|optional|required",
    "ssl_check_hostname": "(?i:true|false)",
}
"""What a query of a Redis address may set, and to what; the program sets time-outs and decoding itself."""
DASK = re.compile(r"local(:[1-9]\d*)?|[a-z]+://[^\s/]+:\d+")
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


# Each check returns its address, also an empty one, or raises ValueError.


def check_redis(address: ServiceAddress) -> ServiceAddress:
    """Write the scheme as Redis's, also Valkey's; refuse what its client would overlook or not understand."""
    scheme, separator, rest = address.url.strip().partition("://")
    scheme = re.sub("^valkey", "redis", scheme.lower())
    address = _check(ServiceAddress(f"{scheme}{separator}{rest}"), REDIS_SCHEMES, "redis://host:6379/0")
    if not address:
        return address
    parts = urlsplit(address.url)
    if "#" in address.url or "@" in parts.query or (scheme != "unix" and "@" in parts.path):
        raise ValueError(f"a # or an @ comes after the host; {ENCODE}")
    if scheme == "unix":
        if parts.hostname or not parts.path.strip("/"):
            raise ValueError("expected the path of a socket as unix:///run/redis.sock?db=0")
    elif not parts.hostname:
        raise ValueError("the address has no host; expected one as redis://host:6379/0")
    elif re.fullmatch("/?[0-9]*", parts.path) is None:
        raise ValueError("after the host comes the number of a database alone, as redis://host:6379/0")
    options = parse_qsl(parts.query, keep_blank_values=True)
    for name, value in options:
        if name not in REDIS_OPTIONS or (name.startswith("ssl") and not scheme.startswith("rediss")):
            known = f"there are {', '.join(REDIS_OPTIONS)}, those of ssl with rediss://"
            raise ValueError(f"{name!r} is no option of this address; {known}")
        if re.fullmatch(REDIS_OPTIONS[name], value) is None:
            raise ValueError(f"the option {name} of the address has a value that it cannot have")
    if "+cluster" in scheme and (parts.path.strip("/0") or dict(options).get("db", "0").strip("0")):
        raise ValueError("a Redis Cluster has database 0 alone; leave the number out")
    return address


def check_database(address: ServiceAddress) -> ServiceAddress:
    if not address:
        return address
    expected = "expected sqlite:///path/to/file.db or postgresql://user:password@host:5432/name"
    try:
        parsed = make_url(address.url)
    except (ArgumentError, ValueError):
        raise ValueError(f"it is no address of a database; {expected}") from None
    if parsed.get_backend_name() not in {"sqlite", "postgresql", "postgres"}:
        raise ValueError(f"{parsed.drivername} is no database that is known here; {expected}")
    if parsed.port is not None and not 0 < parsed.port <= 65_535:
        raise ValueError(f"{parsed.port} is no port; {expected}")
    if "@" in (parsed.host or ""):
        raise ValueError(f"two @ come before the host; {ENCODE}")
    return _check_sqlite(address, parsed) if parsed.get_backend_name() == "sqlite" else address


def _check_sqlite(address: ServiceAddress, parsed: URL) -> ServiceAddress:
    is_file = parsed.database and not parsed.database.startswith((":memory:", "file:"))
    if not is_file or parsed.host or parsed.drivername not in {"sqlite", "sqlite+pysqlite"}:
        raise ValueError("expected a file as sqlite:///path/to/file.db, with a fourth slash from the root on")
    if unknown := sorted(parsed.query.keys() - {"timeout"}):
        raise ValueError(f"its option {unknown[0]} is not known here; the one that is taken is timeout")
    if not re.fullmatch(r"\d+(\.\d+)?", str(parsed.query.get("timeout", "0"))):
        raise ValueError("its timeout is a number of seconds, as ?timeout=30")
    path = absolute(str(parsed.database))
    return address if path == parsed.database else sqlite_address(path, parsed)


def sqlite_address(path: str | Path, parsed: URL = URL.create("sqlite")) -> ServiceAddress:  # noqa: B008 - immutable
    """Return the address of a SQLite file, whatever characters its path has."""
    return ServiceAddress(parsed.set(database=str(path)).render_as_string(hide_password=False))


def absolute(path: str) -> str:
    """Return a path from the root on, with ~ as the user's home."""
    try:
        return str(Path(path).expanduser().absolute())
    except RuntimeError:
        raise ValueError("there is no such user as its ~ names") from None


def _check_offline(address: ServiceAddress) -> ServiceAddress:
    if not address or "://" in address.url:
        return address
    if scheme := re.match(r"[a-z][a-z0-9+.-]+:(?=/)", address.url):
        raise ValueError(f"write {scheme[0]}// before the bucket or host, or name a folder")
    return ServiceAddress(absolute(address.url))


def _check_server(address: ServiceAddress) -> ServiceAddress:
    example = "http://host:5000"
    _check(address, ("http", "https"), example)
    if address and not urlsplit(address.url).hostname:
        raise ValueError(f"the address has no host; expected one as {example}")
    if address.is_unclear:
        raise ValueError(f"an @ comes after the host; {ENCODE}")
    return address


def _check_webhook(secret: SecretStr) -> SecretStr:
    _check_server(ServiceAddress(secret.get_secret_value()))
    return secret


def _check_dask(address: ServiceAddress) -> ServiceAddress:
    if str(address) != address.url:  # Dask would log the rest
        raise ValueError("Dask takes no user, password or query; expected an address as tcp://host:8786")
    if address and not DASK.fullmatch(address.url):
        raise ValueError("expected the address of a scheduler as tcp://host:8786, or local:4")
    return address


def _check(address: ServiceAddress, schemes: Collection[str], example: str) -> ServiceAddress:
    if not address:
        return address
    try:
        parts = urlsplit(address.url)
        port = parts.port
    except ValueError:
        hint = f"expected one as {example}; {ENCODE}"
        raise ValueError(f"the address or its port cannot be read; {hint}") from None
    if parts.scheme not in schemes:
        raise ValueError(f"an address begins with {' or '.join(schemes)} and ://, as {example}")
    if port == 0:
        raise ValueError(f"0 is no port; expected one as {example}")
    return address


def _check_name(name: str) -> str:
    if not name.strip() or len(name) > NAME_MAX or not name.isprintable() or NOT_IN_A_NAME & set(name):
        raise ValueError(f"a name has 1 to {NAME_MAX} characters, and no quote, slash or colon among them")
    return name


def _check_folder(folder: object) -> object:
    if isinstance(folder, str) and not folder:
        raise ValueError("it is empty; name a folder, or remove the setting")
    path = Path(absolute(str(folder)))
    if path.exists() and not path.is_dir():
        raise ValueError("it is a file; name a folder")
    return path


DatabaseAddress = Annotated[ServiceAddress, AfterValidator(check_database)]
RedisAddress = Annotated[ServiceAddress, AfterValidator(check_redis)]
ServerAddress = Annotated[ServiceAddress, AfterValidator(_check_server)]
WebhookAddress = Annotated[SecretStr, AfterValidator(_check_webhook)]
"""Secret as a whole, for its path is most often a password."""
DaskAddress = Annotated[ServiceAddress, AfterValidator(_check_dask)]
OfflineAddress = Annotated[ServiceAddress, AfterValidator(_check_offline)]
Folder = Annotated[Path, BeforeValidator(_check_folder)]
ModelName = Annotated[str, AfterValidator(_check_name)]
