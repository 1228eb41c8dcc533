"""What a process takes from its environment: proxies, certificates, and the settings of hosts and limits."""

import logging
import os
import re
import socket
from collections.abc import Iterator
from ipaddress import ip_address
from pathlib import Path
from urllib.parse import urlsplit

logger = logging.getLogger(__name__)

LOOPBACK = ("127.0.0.1", "localhost", "::1")
PROXIES = {"http_proxy", "https_proxy", "all_proxy"}
CERTIFICATES = {"SSL_CERT_FILE", "REQUESTS_CA_BUNDLE", "CURL_CA_BUNDLE", "AWS_CA_BUNDLE"}
LIMIT = re.compile(r"[1-9]\d*\s*(/|per)\s*([1-9]\d*\s*)?(second|minute|hour|day|month|year)s?")
HOST_NAME = re.compile(r"\.?[a-z0-9-]+(\.[a-z0-9-]+)*")
EVENTS_URL = re.compile(
    r"(https?://([\w.-]+|\[[\da-f:.]+\])(:\d+)?)?(/(?!/)[\w./~%-]*)?", re.ASCII | re.IGNORECASE
)
BYPASSED = re.compile(r"(https?://)?[\w.*-]+(:\d+)?(/\d+)?", re.ASCII)
NOT_HANDED_ON = re.compile(
    r"_?MLFLOW_|GUNICORN_|UVICORN_|FLASK_|GRANIAN_|WEB_CONCURRENCY$|FORWARDED_ALLOW_IPS$"  # servers
    r"|PREFECT_"  # another server, database or profile: runs would be recorded there
    r"|PYTHON|__PYVENV"  # other modules, or warnings that end a program
    r"|PROMETHEUS_|SUPERVISOR_"  # folders and sockets of another system
)
HANDED_ON = re.compile(
    r"MLFLOW_TRACKING_(?!URI)|MLFLOW_(S3|HTTP)_|PREFECT_API_(KEY|AUTH_STRING)$"  # of services elsewhere
    r"|PYTHON(DONTWRITEBYTECODE|PYCACHEPREFIX|UNBUFFERED)$"  # harmless
)


def prepare_environment() -> None:
    """Keep proxies away from this machine's own services, and remove what no HTTP client can use, by name.

    Every client of this process reads the variables: httpx, requests, and those inside Prefect and MLflow.
    They refuse to work at all with one that they cannot use.
    """
    for name, value in sorted(os.environ.items()):
        if value and (problem := _problem(name, value)):
            logger.warning("%s is not used: %s", name, problem)
            del os.environ[name]
    given = os.environ.get("no_proxy") or os.environ.get("NO_PROXY") or ""
    bypassed = ",".join(dict.fromkeys([*_bypassed(given), *LOOPBACK]))
    os.environ.update(NO_PROXY=bypassed, no_proxy=bypassed)


def _problem(name: str, value: str) -> str | None:
    path = Path(value)
    if name == "SSLKEYLOGFILE" and not os.access(path if path.exists() else path.parent, os.W_OK):
        return f"{value} cannot be written"
    if name in CERTIFICATES and not (path.is_dir() and name != "SSL_CERT_FILE"):
        try:
            return None if b"-----BEGIN" in path.read_bytes() else f"{value} has no certificates"
        except OSError as exc:
            return f"{value}: {exc.strerror}"
    if name.lower() in PROXIES:
        try:
            parts = urlsplit(value if "://" in value else f"http://{value}")
            if parts.hostname and parts.port != 0 and parts.scheme in {"http", "https"}:
                return None
        except ValueError:
            pass
        return "expected the address of a proxy as http://host:3128 (SOCKS is not supported)"
    return None


def _bypassed(words: str) -> Iterator[str]:
    for word in filter(None, re.split(r"[\s,]+", words)):
        bare = re.sub(r"^\[(.*)\](:\d+)?$", r"\1", word)
        try:
            yield str(ip_address(bare))
        except ValueError:
            if BYPASSED.fullmatch(word):
                yield word
            else:
                logger.warning("NO_PROXY: %s is not used; expected a host name or an address", word)


def check_port(host: str, port: int) -> None:
    """Raise OSError if this process cannot listen there."""
    socket.create_server((host, port), family=socket.AF_INET6 if ":" in host else socket.AF_INET).close()


def withheld() -> list[str]:
    """Return the names of the variables that programs do not get which `make run` starts."""
    return sorted(name for name in os.environ if NOT_HANDED_ON.match(name) and not HANDED_ON.match(name))


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
