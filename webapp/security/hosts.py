"""Which host names are answered to: one rule for Flask, the fast path and the event streams."""

from collections.abc import Callable, Sequence
from functools import lru_cache
from urllib.parse import urlsplit

from werkzeug.sansio.utils import host_is_trusted

from vroom_features.settings import Settings

LOOPBACK_HOSTS = ["localhost", "127.0.0.1", "::1"]
NUM_HOSTS_CACHED = 16
"""Few, since each may be as long as a header can be."""


def trusted_hosts(settings: Settings) -> list[str] | None:
    """Return the host names answered to, None for all; on loopback a foreign name means a rebound DNS entry.

    Loopback's own are always among them: a health check of the machine or the container uses them.
    """
    if settings.web_trusted_hosts:
        return [*settings.web_trusted_hosts.split(","), *LOOPBACK_HOSTS]
    return LOOPBACK_HOSTS if settings.is_loopback else None


def host_rule(settings: Settings) -> Callable[[str | None], bool]:
    """Return a function that checks a ``Host`` header, with a cache for the fast path."""
    hosts = trusted_hosts(settings)
    return lru_cache(NUM_HOSTS_CACHED)(lambda host: hosts is None or is_one_of(host, hosts))


def is_one_of(authority: str | None, hosts: Sequence[str]) -> bool:
    """Return whether ``host:port`` is one of these hosts, or below one that begins with a dot.

    Flask's own check takes no IPv6 address, and no host in other letter case.

    Examples
    --------
    >>> [is_one_of(host, ["::1", ".example.com"]) for host in ("[::1]:8000", "A.Example.com", "b.com")]
    [True, True, False]
    """
    name = hostname(authority or "") if host_is_trusted(authority) else None
    return name is not None and any(
        name == host.removeprefix(".") or (host[0] == "." and name.endswith(host)) for host in hosts
    )


def hostname(authority: str) -> str | None:
    """Return the name in ``host:port``, without an address's brackets; None where there is none.

    Examples
    --------
    >>> hostname("[::1]:8000"), hostname("[1:2]"), hostname("")
    ('::1', None, None)
    """
    try:
        return urlsplit(f"//{authority}").hostname
    except ValueError:  # brackets without an address in them
        return None
