"""What a process takes from its environment: proxies and certificates, and what it hands on."""

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


def not_inherited() -> list[str]:
    """Return the names of the variables that programs do not get which `make run` starts."""
    return sorted(name for name in os.environ if NOT_HANDED_ON.match(name) and not HANDED_ON.match(name))
