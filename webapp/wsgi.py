"""The WSGI entry, which ``python -m webapp`` serves."""

import gc
import sys

from webapp.app import create_app
from webapp.parent_watchdog import KILL_AFTER_S, watch_parent

SWITCH_INTERVAL_S = 0.001
"""How long a thread that loads a model may keep a request waiting for Python's lock; 0.005 by default."""

sys.setswitchinterval(SWITCH_INTERVAL_S)
watch_parent(kill_after_s=KILL_AFTER_S)
app = create_app()

# Without this, a full collection walks through everything imported so far and delays requests by 90 ms.
gc.collect()
gc.freeze()
