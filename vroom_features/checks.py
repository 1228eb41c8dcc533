"""Checks of settings: addresses of services, hosts, URLs, names, folders, limits and ports.

Each returns the value as it is used, or raises ValueError.  No message repeats an address or a password.
"""

import re
from collections.abc import Callable, Collection, Mapping
from ipaddress import ip_address
from pathlib import Path
from urllib.parse import SplitResult, parse_qsl, urlsplit

from pydantic import AfterValidator, SecretStr
from sqlalchemy import URL, make_url
from sqlalchemy.exc import ArgumentError

from vroom_features.addresses import ENCODE, ServiceAddress

NAME_MAX = 256
NOT_IN_A_NAME = frozenset("/\\:'\"`")
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
LIMIT = re.compile(r"[1-9]\d*\s*(/|per)\s*([1-9]\d*\s*)?(second|minute|hour|day|month|year)s?")
HOST_NAME = re.compile(r"\.?[a-z0-9-]+(\.[a-z0-9-]+)*")
EVENTS_URL = re.compile(
    r"(https?://([\w.-]+|\[[\da-f:.]+\])(:\d+)?)?(/(?!/)[\w./~%-]*)?", re.ASCII | re.IGNORECASE
)
HEADER_TEXT = re.compile(r"([!-~]([ -~]*[!-~])?)?")
"""Empty, or text that an HTTP header carries unchanged."""


def unless_empty(check: Callable[[ServiceAddress], ServiceAddress]) -> AfterValidator:
    """Return the validator of a setting that may be empty."""
    return AfterValidator(lambda address: check(address) if address else address)


def check_redis(address: ServiceAddress) -> ServiceAddress:
    """Write the scheme as Redis's, also Valkey's; refuse what its client would overlook or not understand."""
    scheme, separator, rest = address.url.partition("://")
    scheme = re.sub("^valkey", "redis", scheme.lower())
    address = ServiceAddress(f"{scheme}{separator}{rest}")
    parts = _split(address, REDIS_SCHEMES, "redis://host:6379/0")
    if "#" in address.url or "@" in parts.query or (scheme != "unix" and "@" in parts.path):
        raise ValueError(f"a # or an @ comes after the host; {ENCODE}")
    if scheme == "unix":
        if parts.hostname or not parts.path.strip("/"):
            raise ValueError("expected the path of a socket as unix:///run/redis.sock?db=0")
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


def check_offline(address: ServiceAddress) -> ServiceAddress:
    if "://" in address.url:
        return address
    if scheme := re.match(r"[a-z][a-z0-9+.-]+:(?=/)", address.url):
        raise ValueError(f"write {scheme[0]}// before the bucket or host, or name a folder")
    return ServiceAddress(absolute(address.url))


def check_server(address: ServiceAddress) -> ServiceAddress:
    _split(address, ("http", "https"), "http://host:5000")
    if address.is_unclear:
        raise ValueError(f"an @ comes after the host; {ENCODE}")
    return address


def check_webhook(secret: SecretStr) -> SecretStr:
    if url := secret.get_secret_value():
        check_server(ServiceAddress(url))
    return secret


def check_dask(address: ServiceAddress) -> ServiceAddress:
    if str(address) != address.url:  # Dask would log the rest
        raise ValueError("Dask takes no user, password or query; expected an address as tcp://host:8786")
    if not DASK.fullmatch(address.url):
        raise ValueError("expected the address of a scheduler as tcp://host:8786, or local:4")
    return address


def _split(address: ServiceAddress, schemes: Collection[str], example: str) -> SplitResult:
    """Return the parts of an address that has one of the schemes, a host, and a port if any."""
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
    if not parts.hostname and parts.scheme != "unix":
        raise ValueError(f"the address has no host; expected one as {example}")
    return parts


def check_name(name: str) -> str:
    if not 1 <= len(name) <= NAME_MAX or NOT_IN_A_NAME & set(name):
        raise ValueError(f"a name has 1 to {NAME_MAX} characters, and no quote, slash or colon among them")
    return name


def check_folder(folder: object) -> object:
    if isinstance(folder, str) and not folder:
        raise ValueError("it is empty; name a folder, or remove the setting")
    path = Path(absolute(str(folder)))
    if path.exists() and not path.is_dir():
        raise ValueError("it is a file; name a folder")
    return path


def check_bind_address(host: str) -> str:
    """Return an address to listen on; the server resolves no names."""
    bare = host.removeprefix("[").removesuffix("]")
    try:
        return str(ip_address("127.0.0.1" if bare.lower() == "localhost" else bare))
    except ValueError:
        raise ValueError(
            "expected an IP address of this machine, as 127.0.0.1, ::1, or 0.0.0.0 for all of them;"
            " the port is VROOM_WEB_PORT"
        ) from None


def check_host_names(names: str) -> str:
    return ",".join(_host_name(name) for name in re.split(r"[\s,]+", names) if name)


def _host_name(given: str) -> str:
    """Return a host name in lower case, without scheme, port, path and brackets."""
    rest = given.rpartition("://")[2]
    is_ipv6 = rest.count(":") > 1 and "[" not in rest
    try:
        name = urlsplit(f"//[{rest}]" if is_ipv6 else f"//{rest}").hostname or ""
        if ":" in name:
            return str(ip_address(name))
        dot = "." if name.startswith(("*.", ".")) else ""
        name = dot + name.lstrip("*.").rstrip(".").encode("idna").decode()
    except ValueError:
        name = ""
    if not HOST_NAME.fullmatch(name):
        raise ValueError(
            "expected host names as forecast.example.com, or .example.com for all below it; to answer to any"
            " leave it empty, which is possible where VROOM_WEB_HOST is not loopback"
        )
    return name


def check_events_url(url: str) -> str:
    if not EVENTS_URL.fullmatch(url):
        raise ValueError("expected a URL as https://host/events, or a path as /events")
    return url


def check_limit(limit: str) -> str:
    if limit and not LIMIT.fullmatch(limit.lower()):
        raise ValueError("expected one limit, as 600 per minute, or nothing")
    return limit.lower()


def check_password(password: SecretStr) -> SecretStr:
    if not HEADER_TEXT.fullmatch(password.get_secret_value()):
        raise ValueError("it is sent in a header: use printable ASCII, no space at either end")
    return password


def check_ports(ports: Mapping[str, int]) -> None:
    """Raise ValueError if two settings name the same port."""
    for name, port in ports.items():
        if others := [other for other in ports if other != name and ports[other] == port]:
            names = f"VROOM_{name.upper()} and VROOM_{others[0].upper()}"
            raise ValueError(f"{names} are both {port}; give each a port of its own")
