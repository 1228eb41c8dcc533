"""The webhook: what it is sent, whom it may be, and that a bad receiver only leaves a warning."""

import asyncio
import logging

import pytest
from pydantic import ValidationError
from tenacity import wait_none

from tests.flows.receiver import Receiver
from tests.ports import free_port
from tests.promises.system import wait_until
from tests.secrets import LOGIN, assert_nothing_secret
from vroom_features.settings import Settings
from vroom_model import webhook

DOCUMENT = {"event": "promoted", "text": "version 2 is better", "model_name": "vroom-forecast", "version": 2}


def post(url: str, *, allow_private: bool = True) -> None:
    settings = Settings(_env_file=None, webhook_url=url, webhook_allow_private=allow_private)
    asyncio.run(webhook.post(settings, DOCUMENT))


def test_a_document_is_posted_as_json(receiver: Receiver) -> None:
    post("")
    post(receiver.url.replace("127.0.0.1", f"{LOGIN}@localhost"))
    assert receiver.documents == [DOCUMENT]
    (headers,) = receiver.headers
    assert headers["path"] == "/services/T0/s3cret"
    assert headers["Host"] == f"localhost:{receiver.port}"
    assert headers["Content-Type"] == "application/json"
    assert headers["Authorization"].startswith("Basic ")


@pytest.mark.parametrize(
    ("statuses", "num_attempts", "warning"),
    [
        ([500, 429, 204], 3, ""),
        ([503], 3, "answered 503"),
        ([404], 1, "answered 404"),
        ([302, 204], 1, "answered 302, expected 200; redirects are not followed"),
        ([0], 3, "TimeoutError"),
    ],
)
def test_a_receiver_that_fails_is_tried_again_where_that_may_help(
    receiver: Receiver,
    caplog: pytest.LogCaptureFixture,
    monkeypatch: pytest.MonkeyPatch,
    statuses: list[int],
    num_attempts: int,
    warning: str,
) -> None:
    if statuses == [0]:
        monkeypatch.setattr(webhook, "TIMEOUT_S", 2.0)
    receiver.statuses = statuses
    with caplog.at_level(logging.INFO):
        post(receiver.url)
    wait_until(lambda: len(receiver.documents) >= num_attempts)
    assert len(receiver.documents) == num_attempts
    assert warning in caplog.text
    assert bool(caplog.records) == bool(warning)
    assert_nothing_secret(caplog.text)


@pytest.mark.parametrize(
    "host", ["127.0.0.1", "no-such-host.invalid", f"{'a' * 70}.example", "300.1.2.3", "\N{SNOWMAN}.invalid"]
)
def test_a_receiver_that_is_not_there_is_a_warning(
    caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch, host: str
) -> None:
    monkeypatch.setattr(webhook, "WAIT", wait_none())
    post(f"http://{host}:{free_port()}/s3cret")
    (record,) = caplog.records
    assert record.message.startswith("the webhook did not take the message: ")
    assert_nothing_secret(caplog.text)


@pytest.mark.parametrize(
    "host",
    [
        *("127.0.0.1", "localhost", "2130706433", "0x7f.1", "0.0.0.0"),
        *("10.1.2.3", "100.100.100.200", "169.254.169.254", "172.16.0.1", "192.168.0.1", "224.0.0.1"),
        *("[::1]", "[::]", "[fd00::1]", "[fe80::1]", "[ff02::1]"),
        *("[::ffff:127.0.0.1]", "[::ffff:a00:1]", "[64:ff9b::7f00:1]", "[2002:7f00:1::]"),
    ],
)
def test_this_machine_and_private_networks_are_refused(
    receiver: Receiver, caplog: pytest.LogCaptureFixture, host: str
) -> None:
    post(f"http://{host}:{receiver.port}/s3cret", allow_private=False)
    assert receiver.documents == []
    (record,) = caplog.records
    assert record.message.endswith("to allow that set VROOM_WEBHOOK_ALLOW_PRIVATE=true")
    assert_nothing_secret(caplog.text)


@pytest.mark.parametrize(
    "url", ["ftp://hooks.example/s3cret", "hooks.example/s3cret", "http:///s3cret", "https://h:x/s3cret"]
)
def test_an_address_that_is_none_is_refused_and_not_shown(url: str) -> None:
    with pytest.raises(ValidationError) as refused:
        Settings(_env_file=None, webhook_url=url)
    assert_nothing_secret(str(refused.value))
    assert_nothing_secret(repr(Settings(_env_file=None, webhook_url="https://hooks.example/s3cret")))
