"""Start the web app: ``python -m webapp`` serves it, ``python -m webapp events`` serves its event streams."""

import argparse
import os
import sys
from tempfile import TemporaryDirectory

from granian.constants import HTTPModes, Interfaces
from granian.server import Server

from vroom_features.environment import check_port
from vroom_features.errors import SettingsError
from vroom_features.settings import Settings, read_settings
from webapp.parent_watchdog import KILL_AFTER_S, KILL_STREAMS_AFTER_S

THREADS_A_WORKER = 32
STREAMS_MAX = 10_000
"""Open event streams; one more waits until another closes.  Granian's own limit is 1,024."""


def serve(settings: Settings) -> None:
    """Serve the app until SIGTERM or SIGINT."""
    with TemporaryDirectory(prefix="vroom-metrics-") as folder:
        os.environ["PROMETHEUS_MULTIPROC_DIR"] = folder  # where workers write their counters
        Server(
            "webapp.wsgi:app",
            address=settings.web_host,
            port=settings.web_port,
            interface=Interfaces.WSGI,
            http=HTTPModes.http1,
            workers=settings.web_workers,
            blocking_threads=THREADS_A_WORKER,
            respawn_failed_workers=True,
            workers_kill_timeout=KILL_AFTER_S,
        ).serve()


def serve_events(settings: Settings) -> None:
    """Serve the event streams until SIGTERM or SIGINT."""
    Server(
        "webapp.events:app",
        address=settings.web_host,
        port=settings.web_events_port,
        interface=Interfaces.ASGI,
        http=HTTPModes.http1,
        backpressure=STREAMS_MAX,
        respawn_failed_workers=True,
        workers_kill_timeout=KILL_STREAMS_AFTER_S,
    ).serve()


def main() -> None:
    """Read the command line and serve."""
    parser = argparse.ArgumentParser(prog="python -m webapp", description=__doc__)
    parser.add_argument("what", nargs="?", choices=["app", "events"], default="app")
    what = parser.parse_args().what
    os.umask(0o077)  # only the owner may read what the server writes
    try:
        settings = read_settings()
        name = "web_events_port" if what == "events" else "web_port"
        check_port(settings.web_host, getattr(settings, name))
    except SettingsError as exc:
        sys.stderr.write(f"{exc}\n")
        sys.exit(2)
    except OSError as exc:
        sys.stderr.write(f"VROOM_WEB_HOST, VROOM_{name.upper()}: {exc.strerror}\n")
        sys.exit(2)
    if what == "events":
        serve_events(settings)
    else:
        serve(settings)


if __name__ == "__main__":
    main()
