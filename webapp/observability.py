"""Logs and metrics: every request is logged and counted.

The workers of one server share a folder of memory-mapped counters, ``PROMETHEUS_MULTIPROC_DIR``, so that any
of them answers with the sums over all.
"""

import logging
import os
import re
import sys
from http import HTTPMethod
from pathlib import Path
from time import perf_counter

import psutil
import structlog
from flask import Flask, Response, g, has_request_context, request
from prometheus_client import (
    REGISTRY,
    CollectorRegistry,
    Counter,
    Gauge,
    Histogram,
    generate_latest,
    multiprocess,
)
from structlog.types import EventDict, Processor

from vroom_features.settings import Settings
from webapp.services import services

logger = logging.getLogger(__name__)

LATENCY_BUCKETS_S = (0.0001, 0.00025, 0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.1, 0.5, 2.5)
SWAP_BUCKETS_S = (0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 10.0)

REQUESTS = Histogram(
    "vroom_request_seconds",
    "Time to answer, by route and status",
    ["method", "route", "status"],
    buckets=LATENCY_BUCKETS_S,
)
MODEL_VERSION = Gauge("vroom_model_version", "Version of the model that serves", multiprocess_mode="liveall")
MODEL_SINCE = Gauge(
    "vroom_model_since_timestamp_seconds", "When that model began to serve", multiprocess_mode="liveall"
)
SWAPS = Counter("vroom_swaps_total", "Attempts to follow the champion to another version", ["outcome"])
SWAP_TIME = Histogram("vroom_swap_seconds", "Time to fetch, verify and swap a model", buckets=SWAP_BUCKETS_S)
REGISTRY_READS = Counter("vroom_registry_reads_total", "Reads of the registry", ["outcome"])
SUBSCRIBED = Gauge(
    "vroom_listener_subscribed",
    "1 while messages are received, 0 while only polling",
    multiprocess_mode="liveall",
)
LAST_MESSAGE = Gauge(
    "vroom_listener_last_message_timestamp_seconds",
    "When the last message was received; its age is time() minus this",
    multiprocess_mode="liveall",
)
MESSAGES = Counter("vroom_listener_messages_total", "Messages received", ["kind"])
ONLINE_READS = Counter("vroom_online_reads_total", "Reads of the online store", ["outcome"])
ONLINE_UP = Gauge("vroom_online_store_up", "1 while Redis answers", multiprocess_mode="liveall")
CAUGHT_UP = Counter("vroom_online_caught_up_rows_total", "Rows written or removed to catch up")
ALERTS = Gauge(
    "vroom_alert", "1 while an alert of this kind is raised", ["kind"], multiprocess_mode="livemax"
)
SAVES = Counter("vroom_vehicles_saved_total", "Vehicles saved")

HANDLER_NAME = "vroom"
LOGGED_EXTRA = {"milliseconds", "model_version", "client", "request_id"}
SECRET_PART = re.compile(r"(/link/+).+", re.DOTALL | re.IGNORECASE)
"""What follows is a secret: a private link."""
QUIET_ROUTES = frozenset({"/health", "/metrics", "/v2/health/live", "/v2/health/ready", "static"})


def install(app: Flask) -> None:
    """Log and count the requests of this app."""
    app.before_request(_start)
    app.after_request(_end)


def _start() -> None:
    g.started = perf_counter()


def _end(response: Response) -> Response:
    seconds = perf_counter() - g.get("started", perf_counter())
    route = request.url_rule.rule if request.url_rule else "unknown"
    method = request.method if request.method in HTTPMethod.__members__ else "other"
    REQUESTS.labels(method, route, str(response.status_code)).observe(seconds)
    if request.endpoint not in QUIET_ROUTES and route not in QUIET_ROUTES:
        model = services().slot.current
        extra = {
            "milliseconds": round(seconds * 1000, 2),
            "model_version": model.version if model else None,
            "client": request.remote_addr,
        }
        path = SECRET_PART.sub(r"\1...", request.path)
        logger.info("%s %s %s", request.method, path, response.status_code, extra=extra)
    return response


def read_metrics() -> bytes:
    """Return the metrics of all workers of this server, as Prometheus reads them."""
    folder = os.environ.get("PROMETHEUS_MULTIPROC_DIR")
    registry = REGISTRY
    if folder is not None:
        for path in Path(folder).glob("gauge_live*_*.db"):
            pid = int(path.stem.rpartition("_")[2])
            if not psutil.pid_exists(pid):
                multiprocess.mark_process_dead(pid)  # type: ignore[no-untyped-call]
        registry = CollectorRegistry()
        multiprocess.MultiProcessCollector(registry)  # type: ignore[no-untyped-call]
    return generate_latest(registry)


def configure_logs(settings: Settings) -> None:
    """Log to standard error, as JSON lines or for a terminal; once a process."""
    root = logging.getLogger()
    if any(handler.get_name() == HANDLER_NAME for handler in root.handlers):
        return
    is_console = settings.log_format == "console" or (settings.log_format == "auto" and sys.stderr.isatty())
    renderers: list[Processor] = (
        [_escape, structlog.dev.ConsoleRenderer()] if is_console else [structlog.processors.JSONRenderer()]
    )
    formatter = structlog.stdlib.ProcessorFormatter(
        foreign_pre_chain=[
            structlog.stdlib.add_log_level,
            structlog.stdlib.add_logger_name,
            structlog.processors.TimeStamper(fmt="iso", utc=True),
            structlog.stdlib.ExtraAdder(allow=LOGGED_EXTRA),
            _add_request_id,
            structlog.processors.format_exc_info,
        ],
        processors=[structlog.stdlib.ProcessorFormatter.remove_processors_meta, *renderers],
    )
    handler = logging.StreamHandler(sys.stderr)
    handler.set_name(HANDLER_NAME)
    handler.setFormatter(formatter)
    root.addHandler(handler)
    root.setLevel(logging.WARNING)
    for name in ("webapp", "vroom_model", "vroom_features"):
        logging.getLogger(name).setLevel(logging.INFO)


def _add_request_id(_logger: object, _method: str, event: EventDict) -> EventDict:
    if has_request_context() and "request_id" in g:
        event["request_id"] = g.request_id
    return event


def _escape(_logger: object, _method: str, event: EventDict) -> EventDict:
    """Escape what would break a line or control a terminal; a traceback keeps its lines."""
    return {
        key: _printable(value, keep="\n" if key == "exception" else "") if isinstance(value, str) else value
        for key, value in event.items()
    }


def _printable(text: str, *, keep: str) -> str:
    if text.isprintable():
        return text
    return "".join(c if c.isprintable() or c in keep else c.encode("unicode_escape").decode() for c in text)
