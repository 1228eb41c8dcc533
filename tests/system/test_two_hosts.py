"""Flows on Dask over two hosts, which benchmarks/two_hosts.py makes of network namespaces."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from tests.promises.system import ROOT

pytestmark = pytest.mark.packaging
is_possible = os.geteuid() == 0 and shutil.which("unshare") and any(Path("/usr/lib/postgresql").glob("*/bin"))


@pytest.mark.skipif(not is_possible, reason="it takes root, namespaces and Debian's PostgreSQL")
@pytest.mark.timeout(600)
def test_two_hosts_make_what_one_process_makes_also_when_a_worker_is_killed() -> None:
    command = [
        sys.executable,
        "-m",
        "benchmarks.two_hosts",
        "--vehicles",
        "1000",
        "--partition-vehicles",
        "50",
    ]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "one worker killed" in done.stdout
