"""Logs: one JSON line an event, or readable in a terminal, with the request's id and the model's version."""

import logging
import sys

import structlog
from flask import g, has_request_context
from structlog.types import EventDict, Processor

from vroom_features.settings import Settings

HANDLER_NAME = "vroom"
EXTRA = {"milliseconds", "model_version", "client", "request_id"}


def configure(settings: Settings) -> None:
    """Send the app's logs to standard error, once a process."""
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
            structlog.stdlib.ExtraAdder(allow=EXTRA),
            _add_request,
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


def _add_request(_logger: object, _method: str, event: EventDict) -> EventDict:
    """Name the request that an event belongs to."""
    if has_request_context() and "request_id" in g:
        event["request_id"] = g.request_id
    return event


def _escape(_logger: object, _method: str, event: EventDict) -> EventDict:
    """Write as escapes what would break a line or command a terminal; a traceback keeps its lines."""
    return {
        key: _printable(value, keep="\n" if key == "exception" else "") if isinstance(value, str) else value
        for key, value in event.items()
    }


def _printable(text: str, *, keep: str) -> str:
    if text.isprintable():
        return text
    return "".join(c if c.isprintable() or c in keep else c.encode("unicode_escape").decode() for c in text)
