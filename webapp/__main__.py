"""Start the web app: ``python -m webapp`` serves it, ``python -m webapp events`` serves its event streams."""

import argparse
import os
import sys
import threading

from granian.constants import HTTPModes, Interfaces
from granian.server.mp import MPServer

from vroom_features.errors import SettingsError
from vroom_features.settings import Settings, read_settings
from webapp.leaving import KILL_AFTER_S, KILL_STREAMS_AFTER_S
from webapp.server_folder import Draining, begin_server

THREADS_A_WORKER = 32
"""A client that sends its body slowly holds one until it is cut off, so many such are needed to hold all."""
RESPAWN_INTERVAL_S = 0.1


class Server(MPServer):
    """Granian, which before it stops asks its clients to close their connections, and waits a moment.

    Without that a client may send a request in the very moment the server closes its kept-alive connection.
    """

    drain_s = 0.0
    draining: Draining

    def shutdown(self, exit_code: int = 0) -> None:
        """Drain, then stop."""
        self.draining.begin()
        threading.Event().wait(self.drain_s)
        super().shutdown(exit_code)  # type: ignore[no-untyped-call]  # of granian


def serve(settings: Settings) -> None:
    """Serve the app until SIGTERM or SIGINT."""
    server = Server(
        "webapp.wsgi:app",
        address=settings.web_host,
        port=settings.web_port,
        interface=Interfaces.WSGI,
        http=HTTPModes.http1,  # many requests on one connection: none could be cut off by itself
        workers=settings.web_workers,
        blocking_threads=THREADS_A_WORKER,
        respawn_failed_workers=True,
        respawn_interval=RESPAWN_INTERVAL_S,
        workers_kill_timeout=KILL_AFTER_S,
    )
    server.draining = Draining(begin_server(settings.home))
    server.drain_s = settings.web_drain_seconds
    server.serve()


def serve_events(settings: Settings) -> None:
    """Serve the event streams until SIGTERM or SIGINT."""
    MPServer(
        "webapp.events:app",
        address=settings.web_host,
        port=settings.web_events_port,
        interface=Interfaces.ASGI,
        http=HTTPModes.http1,
        workers=1,
        respawn_failed_workers=True,
        respawn_interval=RESPAWN_INTERVAL_S,
        workers_kill_timeout=KILL_STREAMS_AFTER_S,
    ).serve()


def main() -> None:
    """Read the command line."""
    parser = argparse.ArgumentParser(prog="python -m webapp", description=__doc__)
    parser.add_argument("what", nargs="?", choices=["app", "events"], default="app")
    os.umask(0o077)  # what it writes is for its owner alone
    what = parser.parse_args().what
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
