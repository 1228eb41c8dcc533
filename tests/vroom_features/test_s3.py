"""The offline store in a bucket: a server that speaks S3, and the commands as a person runs them."""

import os
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest
from moto.server import ThreadedMotoServer
from s3fs import S3FileSystem

from tests.ports import free_port
from tests.secrets import LOGIN
from tests.snapshots import SAMPLE
from tests.vroom_features.commands import command, report


@pytest.fixture
def endpoint() -> Iterator[str]:
    """Serve S3 on a free port, with a bucket ``vroom`` in it."""
    server = ThreadedMotoServer(port=(port := free_port()), verbose=False)
    server.start()
    httpx.put(f"http://127.0.0.1:{port}/vroom").raise_for_status()
    yield f"http://127.0.0.1:{port}"
    server.stop()


def test_a_bucket_holds_the_same_snapshots_as_a_folder(tmp_path: Path, endpoint: str) -> None:
    environment = {
        "AWS_ENDPOINT_URL_S3": endpoint,
        "AWS_ACCESS_KEY_ID": "none",
        "AWS_SECRET_ACCESS_KEY": "none",
        "AWS_DEFAULT_REGION": "us-east-1",
        "AWS_MAX_ATTEMPTS": "1",
        "NO_PROXY": f"127.0.0.1,{os.environ.get('NO_PROXY', '')}",
    }
    assert command(tmp_path, "seed", "--data-dir", str(SAMPLE)).returncode == 0
    materialize = ("materialize", "--redis-url", "", "--partition-vehicles", "200", "--offline")
    folder = report(tmp_path, *materialize, "folder")
    first = report(tmp_path, *materialize, "s3://vroom/offline", **environment)
    assert (first["digest"], first["num_parts_written"]) == (folder["digest"], 5)
    keys = {"AWS_ACCESS_KEY_ID": "", "AWS_SECRET_ACCESS_KEY": "", "AWS_SHARED_CREDENTIALS_FILE": os.devnull}
    S3FileSystem.clear_instance_cache()  # as in another process
    same = report(tmp_path, *materialize, f"s3://{LOGIN}@vroom/offline", **environment | keys)
    assert same["state"] == "unchanged, the stores were up to date"
    S3FileSystem.clear_instance_cache()
    environment["AWS_ENDPOINT_URL_S3"] = "http://127.0.0.1:1"
    away = command(tmp_path, *materialize, "s3://vroom/offline", **environment)
    problem = "error: offline store s3://vroom/offline: Could not connect to the endpoint"
    assert (away.returncode, away.stderr.startswith(problem)) == (1, True), away.stderr
