"""Who may change the champion: one process at a time, on both databases."""

import signal
import subprocess
import sys

import pytest

from tests.vroom_features.stores import on_both
from vroom_features.database.engine import promotion_lock
from vroom_features.database.vehicles import SourceStore
from vroom_features.errors import LockTimeoutError

HOLD = """
import sys, time
from vroom_features.database.engine import promotion_lock
from vroom_features.database.vehicles import SourceStore
source = SourceStore.open(sys.argv[1])
with promotion_lock(source.engine, source.address):
    print("held", flush=True)
    time.sleep(600)
"""


@on_both
def test_the_lock_keeps_others_out_also_while_its_holder_is_stopped_and_ends_with_it(
    source: SourceStore,
) -> None:
    words = [sys.executable, "-c", HOLD, source.engine.url.render_as_string(hide_password=False)]
    with subprocess.Popen(words, stdout=subprocess.PIPE, text=True) as holder:
        assert holder.stdout is not None
        assert holder.stdout.readline() == "held\n"
        holder.send_signal(signal.SIGSTOP)
        with pytest.raises(LockTimeoutError, match="another promotion or rollback"):
            promotion_lock(source.engine, source.address, timeout_s=0.2).__enter__()
        holder.kill()
    for _ in range(2):
        with promotion_lock(source.engine, source.address):
            pass
