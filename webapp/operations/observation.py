"""Counting and logging every request that Flask answers.  The short way for forecasts counts its own."""

import logging
from http import HTTPMethod
from time import perf_counter

from flask import Flask, Response, g, request

from webapp import metrics
from webapp.services import services

logger = logging.getLogger(__name__)
QUIET_ROUTES = frozenset({"/health", "/metrics", "/v2/health/live", "/v2/health/ready", "static"})


def install(app: Flask) -> None:
    """Watch the requests of this app."""
    app.before_request(_start)
    app.after_request(_end)
    app.add_url_rule("/metrics", "metrics", _metrics)


def _start() -> None:
    g.started = perf_counter()


def _end(response: Response) -> Response:
    seconds = perf_counter() - g.get("started", perf_counter())
    route = request.url_rule.rule if request.url_rule else "unknown"
    method = request.method if request.method in HTTPMethod.__members__ else "other"
    metrics.REQUESTS.labels(method, route, str(response.status_code)).observe(seconds)
    if request.endpoint not in QUIET_ROUTES and route not in QUIET_ROUTES:
        served = services().slot.current
        logger.info(
            "%s %s %s",
            request.method,
            request.path,
            response.status_code,
            extra={
                "milliseconds": round(seconds * 1000, 2),
                "model_version": served.version if served else None,
                "client": request.remote_addr,
            },
        )
    return response


def _metrics() -> Response:
    """Every metric of every worker, for Prometheus."""
    content, content_type = metrics.exposition()
    return Response(content, content_type=content_type)
