"""The webhook of ``VROOM_WEBHOOK_URL``: a small JSON document is posted to it when something happened.

A receiver that fails never fails a run.  Each attempt resolves the host, checks every address, and connects
to one that was checked.  It uses httpx's transport itself, which follows no redirect, asks no proxy and logs
no URL: the path of a webhook is most often its secret.
"""

import asyncio
import logging
import socket
from collections.abc import Mapping
from ipaddress import ip_address, ip_network

import httpx
from tenacity import AsyncRetrying, retry_if_not_exception_type, stop_after_attempt, wait_random_exponential

from vroom_features.addresses import ServiceAddress
from vroom_features.settings import Settings

logger = logging.getLogger(__name__)
ATTEMPTS = 3
TIMEOUT_S = 5.0
WAIT = wait_random_exponential(max=3)
BUSY = frozenset({429, 500, 502, 503, 504})
CARRIERS = [ip_network(carrier) for carrier in ("::ffff:0:0/96", "64:ff9b::/96", "2002::/16")]
"""IPv6 addresses with an IPv4 address in them, which may be a private one."""


class WebhookError(Exception):
    """The receiver is not asked, or refuses; another attempt ends in the same error."""


async def post(settings: Settings, document: Mapping[str, object]) -> None:
    """Post a document; if it does not arrive, the log says why."""
    if not (url := settings.webhook_url.get_secret_value()):
        return
    retry = retry_if_not_exception_type((WebhookError, httpx.InvalidURL))
    attempts = AsyncRetrying(stop=stop_after_attempt(ATTEMPTS), wait=WAIT, retry=retry, reraise=True)
    try:
        await attempts(_post, url, document, settings.webhook_allow_private)
    # ValueError and InvalidURL: a name or address that no host has
    except (WebhookError, httpx.HTTPError, httpx.InvalidURL, OSError, ValueError) as exc:
        logger.warning("the webhook did not take the message: %s: %s", type(exc).__name__, exc)


async def _post(url: str, document: Mapping[str, object], allow_private: bool) -> None:
    asked = httpx.URL(url)
    async with asyncio.timeout(TIMEOUT_S), httpx.AsyncHTTPTransport() as transport:
        checked = asked.copy_with(host=await _resolve(asked, allow_private))
        headers, extensions = {"Host": asked.netloc.decode("ascii")}, {"sni_hostname": asked.host}
        request = httpx.Request("POST", checked, json=document, headers=headers, extensions=extensions)
        if credentials := ServiceAddress(url).credentials:
            request = next(httpx.BasicAuth(*credentials).sync_auth_flow(request))
        response = await transport.handle_async_request(request)
    if response.status_code in BUSY:
        raise ConnectionError(f"it answered {response.status_code}")
    if not response.is_success:
        raise WebhookError(f"it answered {response.status_code}, expected 200; redirects are not followed")


async def _resolve(url: httpx.URL, allow_private: bool) -> str:
    """Return an address of a host; WebhookError if any of them is not one of the public internet."""
    loop = asyncio.get_running_loop()
    found = await loop.getaddrinfo(url.host, url.port or url.scheme, type=socket.SOCK_STREAM)
    for address in (addresses := [ip_address(where[0]) for *_, where in found]):
        is_public = address.is_global and not address.is_multicast
        if not allow_private and (not is_public or any(address in carrier for carrier in CARRIERS)):
            raise WebhookError(
                "its host is on this machine or in a private network, and nothing was sent;"
                " to allow that set VROOM_WEBHOOK_ALLOW_PRIVATE=true"
            )
    return str(addresses[0])
