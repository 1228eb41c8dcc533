"""Start the web app: ``python -m webapp`` serves it, ``python -m webapp events`` serves its event streams."""

import argparse
import logging
import multiprocessing
import os
import signal
import sys
import threading
import time
from tempfile import TemporaryDirectory

from granian.constants import HTTPModes, Interfaces
from granian.server import Server

from vroom_features.errors import SettingsError
from vroom_features.settings import Settings, read_settings

logger = logging.getLogger(__name__)

THREADS_A_WORKER = 32
KILL_AFTER_S = 15
"""How long a worker that was asked to stop may take to finish its requests."""
KILL_STREAMS_AFTER_S = 1
"""Streams do not end by themselves."""


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
        respawn_failed_workers=True,
        workers_kill_timeout=KILL_STREAMS_AFTER_S,
    ).serve()


def watch_parent(*, kill_after_s: float) -> None:
    """Stop this worker when its server is killed; granian's workers would live on and keep the port.

    Parameters
    ----------
    kill_after_s : float
        How long it may take to stop by itself.
    """
    parent = multiprocessing.parent_process()
    if parent is None:  # no server started it
        return

    def wait_and_stop() -> None:
        parent.join()
        logger.warning("the server is gone, so this worker stops")
        os.kill(os.getpid(), signal.SIGTERM)
        time.sleep(kill_after_s)
        os.kill(os.getpid(), signal.SIGKILL)

    threading.Thread(target=wait_and_stop, name="parent-watchdog", daemon=True).start()


def main() -> None:
    """Read the command line and serve."""
    parser = argparse.ArgumentParser(prog="python -m webapp", description=__doc__)
    parser.add_argument("what", nargs="?", choices=["app", "events"], default="app")
    what = parser.parse_args().what
    os.umask(0o077)  # only the owner may read what the server writes
    try:
        settings = read_settings()
    except SettingsError as exc:
        sys.stderr.write(f"{exc}\n")
        sys.exit(2)
    if what == "events":
        serve_events(settings)
    else:
        serve(settings)


if __name__ == "__main__":
    main()
