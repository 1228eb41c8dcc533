"""The whole system as `make run` starts it, for what needs Prefect and its worker."""

import re
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from flows.up import child_environment
from tests.browser.site import PASSWORD, ROOT, free_ports
from vroom_features.settings import Settings

READY = "Ctrl-C stops everything"
STOP_TIMEOUT_S = 90


@dataclass(frozen=True)
class WholeSystem:
    """Where its pages are."""

    url: str

    @property
    def sign_in_link(self) -> str:
        """The link that signs the operator in."""
        return f"{self.url}/sign-in?token={PASSWORD}"


@contextmanager
def whole_system(home: Path) -> Iterator[WholeSystem]:
    """Run `python -m flows up` until it has done the main job; stop it at the end."""
    web, events, redis, mlflow, prefect = free_ports(5)
    settings = Settings(
        _env_file=None,
        home=home,
        data_dir=ROOT / "data",
        web_port=web,
        web_events_port=events,
        redis_port=redis,
        mlflow_port=mlflow,
        prefect_port=prefect,
    )
    environment = child_environment(settings) | {"VROOM_OPERATOR_PASSWORD": PASSWORD}
    with subprocess.Popen(
        [sys.executable, "-m", "flows", "up"],
        cwd=ROOT,
        env=environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    ) as process:
        try:
            assert process.stdout is not None
            output: list[str] = []
            for line in process.stdout:
                output.append(line)
                if READY in line:
                    break
            else:
                raise AssertionError("the system ended early:\n" + "".join(output))
            found = re.search(r"Page\s+(http://\S+)", "".join(output))
            assert found is not None, "".join(output)
            yield WholeSystem(found[1])
        finally:
            process.terminate()
            process.wait(STOP_TIMEOUT_S)
