"""The ASGI server of event streams: ``python -m webapp events``.

A stream holds its connection for hours, which would take a thread from the workers that forecast; here it
costs one coroutine.  Each message on a Redis channel becomes one server-sent event for every stream.  Events
are hints, as messages are: a client that missed some reads the API.
"""

import asyncio
import logging
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager, suppress

from redis.asyncio import Redis
from redis.asyncio.client import PubSub
from redis.exceptions import RedisError
from redis.exceptions import TimeoutError as RedisTimeoutError
from starlette.applications import Starlette
from starlette.datastructures import Headers
from starlette.middleware import Middleware
from starlette.requests import Request
from starlette.responses import JSONResponse, PlainTextResponse, Response, StreamingResponse
from starlette.routing import Route
from starlette.types import ASGIApp, Receive, Scope, Send

from vroom_features.addresses import ServiceAddress
from vroom_features.messages import (
    PREFIX,
    Message,
    MessageError,
    RunFinished,
    VehicleDeleted,
    VehicleMaterialized,
    VehicleSaved,
)
from vroom_features.online.redis_client import describe, node_url
from vroom_features.settings import Settings, read_settings
from vroom_model.messages import ModelLoaded, ModelPromoted, PipelineCompleted
from webapp.parent_watchdog import KILL_STREAMS_AFTER_S, watch_parent
from webapp.security.hosts import LOOPBACK_HOSTS, host_rule, hostname, is_one_of, trusted_hosts

logger = logging.getLogger(__name__)

EVENTS: dict[str, tuple[str, type[Message]]] = {
    ModelPromoted.channel: ("model-promoted", ModelPromoted),
    ModelLoaded.channel: ("model-swapped", ModelLoaded),
    VehicleSaved.channel: ("vehicle-saved", VehicleSaved),
    VehicleDeleted.channel: ("vehicle-deleted", VehicleDeleted),
    VehicleMaterialized.channel: ("vehicle-materialized", VehicleMaterialized),
    PipelineCompleted.channel: ("run-finished", PipelineCompleted),
    RunFinished.channel: ("run-finished", RunFinished),
}
QUEUE_MAX = 256
KEEPALIVE_S = 15.0
RECONNECT_S = 1.0
PING_INTERVAL_S = 2.0
UNANSWERED_MAX = 2
"""A connection with so many unanswered pings is closed; TCP would wait for a quarter of an hour."""
HELLO = b"retry: 2000\n\n"


class Broadcast:
    """Send every message to every stream; a stream that is too slow is closed, and its client reconnects."""

    def __init__(self, redis_url: str | ServiceAddress, prefix: str = PREFIX) -> None:
        self._redis_url = redis_url
        self._kinds = {kind.channel_of(prefix): channel for channel, (_, kind) in EVENTS.items()}
        self._problem = ""
        self.queues: set[asyncio.Queue[bytes | None]] = set()
        """One for each open stream."""
        self.is_subscribed = False

    async def run(self) -> None:
        """Follow the channels until cancelled, and reconnect when the connection to Redis breaks."""
        while True:
            client: Redis = Redis.from_url(node_url(self._redis_url), socket_connect_timeout=1.0)
            try:
                async with client.pubsub() as pubsub:
                    await self._follow(pubsub)
            except RedisError as exc:
                if (problem := describe(exc)) != self._problem:
                    logger.warning("no event messages are received: %s", problem)
                self._problem, self.is_subscribed = problem, False
                await asyncio.sleep(RECONNECT_S)
            finally:
                await client.aclose()

    async def _follow(self, pubsub: PubSub) -> None:
        await pubsub.subscribe(*self._kinds)
        num_unanswered = 0
        while True:
            message = await pubsub.get_message(timeout=PING_INTERVAL_S)
            if message is None:
                if num_unanswered == UNANSWERED_MAX:
                    raise RedisTimeoutError("no answer to PING")
                await pubsub.ping()
                num_unanswered += 1
                continue
            num_unanswered = 0
            self._problem, self.is_subscribed = "", True
            if message["type"] == "message":
                with suppress(MessageError):  # not one of our messages, so no event
                    self._send(encode(self._kinds[message["channel"].decode()], message["data"]))

    async def keep_alive(self) -> None:
        """Send a comment to every stream from time to time, so that a closed connection is noticed."""
        while True:
            await asyncio.sleep(KEEPALIVE_S)
            self._send(b": keep-alive\n\n")

    def _send(self, event: bytes) -> None:
        for queue in tuple(self.queues):
            if queue.full():
                self.queues.discard(queue)
                queue.get_nowait()
                queue.put_nowait(None)
            else:
                queue.put_nowait(event)

    async def stream(self) -> AsyncIterator[bytes]:
        """Yield events as they come."""
        queue: asyncio.Queue[bytes | None] = asyncio.Queue(QUEUE_MAX)
        self.queues.add(queue)
        try:
            yield HELLO
            while True:
                event = await queue.get()
                if event is None:
                    return
                yield event
        finally:
            self.queues.discard(queue)


def refuse_foreign_hosts(app: ASGIApp, is_trusted: Callable[[str | None], bool]) -> ASGIApp:
    """Return the app with a 400 for a foreign host name, which may be a page's rebound DNS entry.

    Starlette's own middleware does not read the ports and leading dots of the settings.
    """

    async def checked(scope: Scope, receive: Receive, send: Send) -> None:
        is_foreign = scope["type"] == "http" and not is_trusted(Headers(scope=scope).get("host"))
        answer = PlainTextResponse("this host name is not answered to", 400) if is_foreign else app
        await answer(scope, receive, send)

    return checked


def encode(channel: str, payload: bytes) -> bytes:
    """Return a message as a server-sent event; MessageError if it is not what its channel carries."""
    name, kind = EVENTS[channel]
    return f"event: {name}\ndata: {kind.decode(payload).encode()}\n\n".encode()


def create_events_app(settings: Settings | None = None) -> Starlette:
    """Return the ASGI app; it connects to Redis when its server starts it."""
    settings = settings or read_settings()
    broadcast = Broadcast(settings.redis, settings.redis_prefix)
    trusted_pages = trusted_hosts(settings) or LOOPBACK_HOSTS

    @asynccontextmanager
    async def lifespan(_app: Starlette) -> AsyncIterator[None]:
        watch_parent(kill_after_s=KILL_STREAMS_AFTER_S)
        tasks = asyncio.gather(broadcast.run(), broadcast.keep_alive())
        yield
        tasks.cancel()
        with suppress(asyncio.CancelledError):
            await tasks

    async def events(request: Request) -> Response:
        headers = {"Cache-Control": "no-store", "X-Accel-Buffering": "no", "Vary": "Origin"}
        origin = request.headers.get("origin", "")
        authority = origin.partition("://")[2]
        # The page comes from another port of this machine, or through the same proxy.
        is_same = (name := hostname(authority)) is not None and name == hostname(request.headers["host"])
        if is_same or is_one_of(authority, trusted_pages):
            headers["Access-Control-Allow-Origin"] = origin
        return StreamingResponse(broadcast.stream(), media_type="text/event-stream", headers=headers)

    async def health(_request: Request) -> Response:
        state = {"status": "ok" if broadcast.is_subscribed else "degraded", "streams": len(broadcast.queues)}
        return JSONResponse(state)

    return Starlette(
        routes=[Route("/events", events), Route("/health", health)],
        middleware=[Middleware(refuse_foreign_hosts, host_rule(settings))],
        lifespan=lifespan,
    )


app = create_events_app()
