"""The commands, run in this process as ``python -m vroom_features`` runs them."""

import io
import json
import os
import sys
from contextlib import redirect_stderr, redirect_stdout
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from vroom_features.__main__ import main


@dataclass(frozen=True)
class Done:
    returncode: int
    stdout: str
    stderr: str

    @property
    def document(self) -> dict[str, Any]:
        """The report of a command that was asked for JSON and succeeded."""
        assert self.returncode == 0, self.stderr
        assert self.stdout.count("\n") == 1
        found: dict[str, Any] = json.loads(self.stdout)
        assert found["seconds"] > 0
        return found


def command(home: Path, *arguments: str, **environment: str) -> Done:
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
    return Done(int(ended.value.code or 0), out.getvalue(), err.getvalue())
