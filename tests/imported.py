"""What a program imports, seen in a process of its own."""

import subprocess
import sys


def imported_by(program: str) -> set[str]:
    """Run a program and return the names of the packages that were imported at its end."""
    code = f"{program}\nimport sys\nprint(*sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True)
    return {name.partition(".")[0] for name in done.stdout.split()}
