"""Clients reach this machine's own services whatever it sets, and say which variables they leave out."""

import logging
import os
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, HTTPServer
from threading import Thread

import httpx
import pytest
import requests

from vroom_features.environment import prepare_environment

NOBODY = "http://127.0.0.1:9"
PROXIES = ("HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY", "http_proxy", "https_proxy", "all_proxy")
OTHERS = ("NO_PROXY", "no_proxy", "SSL_CERT_FILE", "REQUESTS_CA_BUNDLE", "CURL_CA_BUNDLE", "SSLKEYLOGFILE")


class Greeting(BaseHTTPRequestHandler):
    """Answer every request with 200."""

    def do_GET(self) -> None:
        self.send_response(200)
        self.end_headers()

    def log_message(self, *_: object) -> None: ...


@contextmanager
def serving() -> Iterator[str]:
    with HTTPServer(("127.0.0.1", 0), Greeting) as server:
        Thread(target=server.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{server.server_port}"
        server.shutdown()


@pytest.mark.parametrize(
    ("variables", "said"),
    [
        ({"HTTP_PROXY": NOBODY}, []),
        ({"http_proxy": NOBODY, "HTTPS_PROXY": "127.0.0.1:9"}, []),
        (
            {"ALL_PROXY": "socks5://127.0.0.1:9", "all_proxy": "socks5h://u:s3cret@127.0.0.1:9"},
            ["ALL_PROXY", "all_proxy"],
        ),
        ({"HTTP_PROXY": "http://proxy:s3cret"}, ["HTTP_PROXY"]),
        ({"HTTPS_PROXY": "ftp://proxy"}, ["HTTPS_PROXY"]),
        ({"HTTP_PROXY": NOBODY, "NO_PROXY": "[::1],fe80::/10, 10.0.0.0/8"}, ["NO_PROXY"]),
        ({"HTTP_PROXY": NOBODY, "no_proxy": "*.internal [2001:db8::1]:80 host:port"}, ["NO_PROXY"]),
        ({"SSL_CERT_FILE": "/", "REQUESTS_CA_BUNDLE": "/"}, ["SSL_CERT_FILE"]),
        ({"SSL_CERT_FILE": __file__, "SSLKEYLOGFILE": "/gone/keys"}, ["SSLKEYLOGFILE", "SSL_CERT_FILE"]),
        (
            {"REQUESTS_CA_BUNDLE": "/gone", "CURL_CA_BUNDLE": "/gone"},
            ["CURL_CA_BUNDLE", "REQUESTS_CA_BUNDLE"],
        ),
    ],
)
def test_clients_reach_this_machine_and_what_they_cannot_use_is_named(
    variables: dict[str, str],
    said: list[str],
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    for name in (*PROXIES, *OTHERS):
        monkeypatch.setenv(name, "")  # so that it is restored
        monkeypatch.delenv(name)
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    with caplog.at_level(logging.WARNING):
        prepare_environment()
    assert [record.getMessage().split()[0].rstrip(":") for record in caplog.records] == said
    assert "s3cret" not in caplog.text
    with serving() as url:
        assert httpx.get(url).status_code == requests.get(url, timeout=10).status_code == 200
    assert not set(said) - {"NO_PROXY"} & os.environ.keys()
