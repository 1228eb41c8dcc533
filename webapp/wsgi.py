"""The WSGI entry, which ``python -m webapp`` serves."""

import gc
import sys
import threading

from vroom_features.settings import Settings
from webapp import doorkeeper, slow_clients
from webapp.leaving import KILL_AFTER_S, leave_with_the_server
from webapp.server_folder import Draining, join_server

SWITCH_INTERVAL_S = 0.001
"""How long a thread that loads a model may keep a request waiting for Python's lock; 0.005 by default."""

sys.setswitchinterval(SWITCH_INTERVAL_S)
settings = Settings()
draining = Draining(join_server(settings.home))
doorkeeper.watch(draining)


def drain() -> None:
    """Let clients close their connections, as the server does before it stops."""
    draining.begin()
    threading.Event().wait(settings.web_drain_seconds)


leave_with_the_server(drain, kill_after_s=KILL_AFTER_S)

from webapp.app import create_app  # noqa: E402 - the counters' folder must be known before they are imported

app = create_app(settings, draining=draining)
slow_clients.watch(app, settings.web_request_seconds)

# What is here now stays: without this a full collection walks all of it and holds every request up for 90 ms.
gc.collect()
gc.freeze()
