"""A worker whose server was killed leaves: nobody would replace it, drain it or stop it any more."""

import logging
import multiprocessing
import os
import signal
import threading
from collections.abc import Callable

logger = logging.getLogger(__name__)

KILL_AFTER_S = 15
"""How long a worker that was asked to stop may take to answer what it has in hand."""
KILL_STREAMS_AFTER_S = 1
"""Streams do not end by themselves."""


def leave_with_the_server(prepare: Callable[[], object], *, kill_after_s: float) -> threading.Thread | None:
    """Stop this worker when the process that started it is gone, killed or not.

    Parameters
    ----------
    prepare : callable
        Done first, while the worker still answers.
    kill_after_s : float
        How long it may take to stop by itself.

    Returns
    -------
    threading.Thread or None
        What waits in the background; None when no server started this process.
    """
    server = multiprocessing.parent_process()
    if server is None:
        return None

    def wait_and_leave() -> None:
        server.join()
        logger.warning("the server is gone, so this worker leaves")
        prepare()
        os.kill(os.getpid(), signal.SIGTERM)
        threading.Event().wait(kill_after_s)
        os.kill(os.getpid(), signal.SIGKILL)

    thread = threading.Thread(target=wait_and_leave, name="leaving", daemon=True)
    thread.start()
    return thread
