"""The commands, run in this process as ``python -m vroom_features`` runs them."""

import io
import json
import os
import subprocess
import sys
from contextlib import redirect_stderr, redirect_stdout
from pathlib import Path
from typing import Any

import pytest

from vroom_features.__main__ import main


def command(home: Path, *arguments: str, **environment: str) -> subprocess.CompletedProcess[str]:
    """Run a command in a folder, with no other settings than these."""
    out, err, umask = io.StringIO(), io.StringIO(), os.umask(0)
    with pytest.MonkeyPatch.context() as patch, redirect_stdout(out), redirect_stderr(err):
        patch.chdir(home)
        for name in [name for name in os.environ if name.startswith("VROOM_")]:
            patch.delenv(name)
        for name, value in environment.items():
            patch.setenv(name, value)
        patch.setattr(sys, "argv", ["vroom_features", *arguments])
        try:
            with pytest.raises(SystemExit) as ended:
                main()
        finally:
            os.umask(umask)
    return subprocess.CompletedProcess(arguments, int(ended.value.code or 0), out.getvalue(), err.getvalue())


def report(home: Path, *arguments: str, **environment: str) -> dict[str, Any]:
    """Run a command that succeeds, and return its one line of JSON."""
    done = command(home, *arguments, "--json", **environment)
    assert (done.returncode, done.stdout.count("\n")) == (0, 1), done.stderr
    found: dict[str, Any] = json.loads(done.stdout)
    assert found["seconds"] > 0
    return found
