"""The webhook of ``VROOM_WEBHOOK_URL``: a small JSON document is posted to it when something happened.

A receiver that fails never fails a run.  Each attempt resolves the host, checks every address, and connects
to one that was checked.  It uses httpx's transport itself, which follows no redirect, asks no proxy and logs
no URL: the path of a webhook is most often its secret.
"""

import asyncio
import logging
import socket
from collections.abc import Mapping
from ipaddress import IPv4Address, IPv6Address, IPv6Network, ip_address

import httpx
from tenacity import AsyncRetrying, retry_if_not_exception_type, stop_after_attempt, wait_random_exponential

from vroom_features.addresses import ServiceAddress
from vroom_features.settings import Settings

logger = logging.getLogger(__name__)
ATTEMPTS = 3
TIMEOUT_S = 5.0
WAIT = wait_random_exponential(max=3)
BUSY = frozenset({429, 500, 502, 503, 504})
NAT64 = IPv6Network("64:ff9b::/96")


class WebhookError(Exception):
    """The receiver is not asked, or refuses; another attempt ends in the same error."""


async def post(settings: Settings, document: Mapping[str, object]) -> None:
    """Post a document; if it does not arrive, the log says why."""
    url = settings.webhook_url.get_secret_value()
    if not url:
        return
    attempts = AsyncRetrying(
        stop=stop_after_attempt(ATTEMPTS),
        wait=WAIT,
        retry=retry_if_not_exception_type(WebhookError),
        reraise=True,
    )
    try:
        await attempts(_post, url, document, settings.webhook_allow_private)
    except (WebhookError, httpx.HTTPError, OSError, ValueError) as exc:  # ValueError: a name that no host has
        logger.warning("the webhook did not take the message: %s: %s", type(exc).__name__, exc)


async def _post(url: str, document: Mapping[str, object], allow_private: bool) -> None:
    asked = httpx.URL(url)
    async with asyncio.timeout(TIMEOUT_S), httpx.AsyncHTTPTransport() as transport:
        address = await _resolve(asked.host, asked.port or {"http": 80}.get(asked.scheme, 443), allow_private)
        request = httpx.Request(
            "POST",
            asked.copy_with(host=address),
            json=document,
            headers={"Host": asked.netloc.decode("ascii")},
            extensions={"sni_hostname": asked.host},
        )
        if credentials := ServiceAddress(url).credentials:
            request = next(httpx.BasicAuth(*credentials).sync_auth_flow(request))
        response = await transport.handle_async_request(request)
    if response.status_code in BUSY:
        raise ConnectionError(f"it answered {response.status_code}")
    if not response.is_success:
        raise WebhookError(f"it answered {response.status_code}, expected 200; redirects are not followed")


async def _resolve(host: str, port: int, allow_private: bool) -> str:
    """Return an address of a host; WebhookError if any of them is not one of the public internet."""
    found = await asyncio.get_running_loop().getaddrinfo(host, port, type=socket.SOCK_STREAM)
    addresses = [ip_address(where[0]) for *_, where in found]
    if not allow_private and not all(map(is_public, addresses)):
        raise WebhookError(
            "its host is on this machine or in a private network, and nothing was sent;"
            " to allow that set VROOM_WEBHOOK_ALLOW_PRIVATE=true"
        )
    return str(addresses[0])


def is_public(address: IPv4Address | IPv6Address) -> bool:
    """Return whether an address is one of the public internet, also where IPv6 carries it.

    Examples
    --------
    >>> [is_public(ip_address(text)) for text in ("1.1.1.1", "10.0.0.1", "::ffff:127.0.0.1")]
    [True, False, False]
    """
    if isinstance(address, IPv6Address):
        carried = address.ipv4_mapped or address.sixtofour
        if address in NAT64:
            carried = IPv4Address(int(address) & 0xFFFFFFFF)
        if carried:
            return is_public(carried)
    return address.is_global and not address.is_multicast
