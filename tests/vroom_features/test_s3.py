"""The offline store in a bucket: a server that speaks S3, and the commands as a person runs them."""

import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest
import tenacity
from s3fs import S3FileSystem

from tests.ports import free_port
from tests.secrets import LOGIN
from tests.snapshots import SAMPLE
from tests.vroom_features.commands import command
from vroom_features.errors import OfflineStoreError
from vroom_features.offline.snapshots import OfflineStore

START_TIMEOUT_S = 60
SMALL = ("--redis-url", "", "--json", "--partition-vehicles", "200")


@pytest.fixture
def endpoint(tmp_path: Path) -> Iterator[str]:
    """Serve S3 on a free port, with a bucket ``vroom`` in it."""
    url = f"http://127.0.0.1:{(port := free_port())}"
    command = [sys.executable, "-m", "moto.server", "--host", "127.0.0.1", "--port", str(port)]
    with (
        (tmp_path / "moto.log").open("w") as log,
        subprocess.Popen(command, stdout=log, stderr=log) as server,
    ):
        try:
            make_bucket(f"{url}/vroom")
            yield url
        finally:
            server.terminate()


@tenacity.retry(
    wait=tenacity.wait_fixed(0.1),
    stop=tenacity.stop_after_delay(START_TIMEOUT_S),
    retry=tenacity.retry_if_exception_type(httpx.TransportError),
)
def make_bucket(url: str) -> None:
    """Make a bucket, as soon as the server is up."""
    httpx.put(url).raise_for_status()


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
    folder = command(tmp_path, "materialize", *SMALL, "--offline", "folder").document
    bucket = ("materialize", *SMALL, "--offline", "s3://vroom/offline")
    first = command(tmp_path, *bucket, **environment).document
    assert (first["digest"], first["num_parts_written"]) == (folder["digest"], 5)
    keys = {"AWS_ACCESS_KEY_ID": "", "AWS_SECRET_ACCESS_KEY": "", "AWS_SHARED_CREDENTIALS_FILE": os.devnull}
    with_keys = (*bucket[:-1], f"s3://{LOGIN}@vroom/offline")
    S3FileSystem.clear_instance_cache()  # as in another process
    same = command(tmp_path, *with_keys, **(environment | keys)).document
    assert same["state"] == "unchanged, the stores were up to date"

    S3FileSystem.clear_instance_cache()
    away = command(tmp_path, *bucket, **(environment | {"AWS_ENDPOINT_URL_S3": "http://127.0.0.1:1"}))
    assert away.returncode == 1
    assert away.stderr.startswith(
        "error: offline store s3://vroom/offline: Could not connect to the endpoint"
    )


@pytest.mark.parametrize(
    ("url", "said"), [("s4://vroom/offline", "Protocol not known: s4"), ("gs://vroom/offline", "gcsfs")]
)
def test_a_url_of_no_known_kind_is_a_clear_error(url: str, said: str) -> None:
    with pytest.raises(OfflineStoreError, match=said):
        OfflineStore(url)
