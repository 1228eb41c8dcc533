"""Each setting is normalized, or refused with its name; so are a file of settings and what clients read."""

import logging
import os
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from threading import Thread

import httpx
import pytest
import requests

from tests.secrets import assert_nothing_secret
from vroom_features.addresses import ServiceAddress
from vroom_features.checks import sqlite_address
from vroom_features.database.vehicles import SourceStore
from vroom_features.environment import prepare_environment
from vroom_features.errors import SettingsError
from vroom_features.settings import Settings, read_settings

ODD = "a?b%20#c é;d'q%s(x)"
"""A folder's name with all that URLs, SQL, shells and format strings give a meaning."""


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Return the folder that the program is started in, which is also the user's home."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HOME", str(tmp_path))
    return tmp_path


def assert_refused(name: str, words: str) -> None:
    with pytest.raises(SettingsError) as refusal:
        read_settings()
    assert str(refusal.value).startswith(f"{name}: ")
    assert words in str(refusal.value)
    assert_nothing_secret(str(refusal.value))


@pytest.mark.parametrize(
    ("setting", "taken"),
    [
        ("HOME=~/my cars", "{folder}/my cars"),
        ("HOME= var/../cars ", "{folder}/var/../cars"),
        ("DATA_DIR=~", "{folder}"),
        ("DATABASE_URL=sqlite:///v.db?timeout=30", "sqlite:///{folder}/v.db?timeout=30"),
        ("DATABASE_URL=sqlite+pysqlite:////srv/v.db", "sqlite+pysqlite:////srv/v.db"),
        ("DATABASE_URL=postgresql+psycopg://user:a#b@db:5432/v", "postgresql+psycopg://user:a#b@db:5432/v"),
        ("DATABASE_URL=postgresql:///v?host=/run/postgresql", "postgresql:///v?host=/run/postgresql"),
        ("REDIS_URL=valkey://:p%40ss@host:6379", "redis://:p%40ss@host:6379"),
        ("REDIS_URL=Valkeys://host/1", "rediss://host/1"),
        ("REDIS_URL=valkey+cluster://[::1]:7000", "redis+cluster://[::1]:7000"),
        ("REDIS_URL=unix:///run/redis.sock?db=1", "unix:///run/redis.sock?db=1"),
        (
            "REDIS_URL=rediss://user:p%23ss@host/15?ssl_cert_reqs=none&protocol=2&client_name=vroom",
            "rediss://user:p%23ss@host/15?ssl_cert_reqs=none&protocol=2&client_name=vroom",
        ),
        ("MLFLOW_URI=https://mlflow.internal/prefix", "https://mlflow.internal/prefix"),
        ("OFFLINE_URL=~/offline", "{folder}/offline"),
        ("OFFLINE_URL=s3://bucket/vroom ", "s3://bucket/vroom"),
        ("WEB_HOST=localhost", "127.0.0.1"),
        ("WEB_HOST=2001:DB8:0:0::1", "2001:db8::1"),
        ("WEB_TRUSTED_HOSTS=https://Forecast.Example.com:8443/vroom", "forecast.example.com"),
        ("WEB_TRUSTED_HOSTS=A.example, *.b.example .c.example.", "a.example,.b.example,.c.example"),
        ("WEB_TRUSTED_HOSTS=::1,[2001:DB8:0::1]:443,10.0.0.5:80", "::1,2001:db8::1,10.0.0.5"),
        ("WEB_TRUSTED_HOSTS=bücher.example", "xn--bcher-kva.example"),
        ("WEB_EVENTS_URL=https://h.example/vroom/events", "https://h.example/vroom/events"),
        ("WEB_EVENTS_URL=/vroom/events", "/vroom/events"),
        ("WEB_PREDICT_LIMIT=600 Per Minute", "600 per minute"),
        ("WEB_PREDICT_LIMIT=10/2 hours", "10/2 hours"),
        ("WEB_OPEN_SAVING=YES", "yes"),
        ("WEB_TLS= True ", "True"),
        ("DASK_ADDRESS=local", "local"),
        ("DASK_ADDRESS=tls://scheduler:8786", "tls://scheduler:8786"),
        ("MODEL_NAME= Prévision v2.1_a ", "Prévision v2.1_a"),
    ],
)
def test_a_setting_is_taken_as_it_is_meant(
    setting: str, taken: str, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    name, _, value = setting.partition("=")
    monkeypatch.setenv(f"VROOM_{name}", value)
    found = getattr(read_settings(), name.lower())
    assert (found.url if isinstance(found, ServiceAddress) else str(found)) == taken.format(folder=folder)


@pytest.mark.parametrize(
    ("setting", "words"),
    [
        ("HOME=", "it is empty"),
        ("HOME=/dev/null", "it is a file"),
        ("HOME=~nobody-here/var", "no such user"),
        ('HOME="var"', "quotes"),
        ("HOME=var\nVROOM_WEB_PORT=1", "control character"),
        ("DATABASE_URL=sqlite:///v.db?foo=s3cret", "foo"),
        ("DATABASE_URL=sqlite:///v.db?timeout=soon", "timeout"),
        ("DATABASE_URL=sqlite:///file:v.db?mode=ro&uri=true", "sqlite:///path/to/file.db"),
        ("DATABASE_URL=sqlite://srv/v.db", "fourth slash"),
        ("DATABASE_URL=sqlite+aiosqlite:///v.db", "sqlite:///path/to/file.db"),
        ("OFFLINE_URL=s3:/bucket/vroom", "s3://"),
        ("DATABASE_URL=postgresql://addressuser:p@s3cret@host/db", "two @ come before the host"),
        ("DATABASE_URL=postgresql://addressuser:p@s3cret:port/db", "no address of a database"),
        ("DATABASE_URL=postgresql://addressuser:s3cret@host:99999/db", "99999 is no port"),
        ("DATABASE_URL=mysql://addressuser:s3cret@host/db", "mysql is no database that is known here"),
        ("REDIS_URL=redis://addressuser:s3cret/1@host/0", "write @ as %40"),
        ("REDIS_URL=addressuser:s3cret@host:6379", "begins with redis"),
        ("REDIS_URL=redis://addressuser#s3cret@host/0", "a # or an @ comes after the host"),
        ("REDIS_URL=redis://:p[s3cret@host:6379/0", "[ as %5B"),
        ("REDIS_URL=redis://host:6379/0?socket_timeout=9&password=s3cret", "'socket_timeout' is no option"),
        ("REDIS_URL=redis://host:6379/0?ssl_cert_reqs=none", "those of ssl with rediss://"),
        ("REDIS_URL=rediss://host:6379/0?ssl_cert_reqs=s3cret", "ssl_cert_reqs of the address has a value"),
        ("REDIS_URL=redis://host:6379/zero", "the number of a database alone"),
        ("REDIS_URL=redis://host:70000/0", "its port cannot be read"),
        ("REDIS_URL=redis:///0", "no host"),
        ("REDIS_URL=redis+cluster://host:7000/1", "database 0 alone"),
        ("REDIS_URL=valkey+cluster://host:7000?db=1", "database 0 alone"),
        ("REDIS_URL=unix://run/redis.sock", "unix:///run/redis.sock"),
        ("REDIS_PREFIX=a{b}", "pattern"),
        ("MLFLOW_URI=http://addressuser:12/s3cret@host", "an @ comes after the host"),
        ("MLFLOW_URI=mlflow.internal:5000", "begins with http"),
        ("DASK_ADDRESS=tcp://addressuser:s3cret@host:8786", "no user, password or query"),
        ("DASK_ADDRESS=local:many", "local:4"),
        ("WEB_HOST=127.0.0.1:8000", "VROOM_WEB_PORT"),
        ("WEB_HOST=forecast.example.com", "IP address"),
        ("WEB_TRUSTED_HOSTS=*", "leave it empty"),
        ("WEB_TRUSTED_HOSTS=a.example,b_c.example", "forecast.example.com"),
        ("WEB_EVENTS_URL=forecast.example.com/events", "https://"),
        ("WEB_EVENTS_URL=//forecast.example.com/events", "https://"),
        ("WEB_EVENTS_URL=https://a.example/; script-src *", "https://"),
        ("WEB_PREDICT_LIMIT=600", "600 per minute"),
        ("WEB_PREDICT_LIMIT=6 per minute; 1 per second", "600 per minute"),
        ("MODEL_NAME=a/b", "no quote, slash or colon"),
        (f"MODEL_NAME={'m' * 257}", "1 to 256 characters"),
        ("PROMOTION_SEGMENT_MARGIN=inf", "finite number"),
        ("WEB_OPEN_SAVING=maybe", "'auto'"),
    ],
)
def test_a_setting_that_cannot_be_meant_is_refused_by_name_and_without_its_secrets(
    setting: str, words: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    name, _, value = setting.partition("=")
    monkeypatch.setenv(f"VROOM_{name}", value)
    assert_refused(f"VROOM_{name}", words)
    with pytest.raises(ValueError, match="validation error") as error:  # what a flow's log has
        Settings()
    assert_nothing_secret(str(error.value))


@pytest.mark.parametrize(
    ("ports", "refused"),
    [
        ({"WEB_PORT": "8001"}, "VROOM_WEB_PORT and VROOM_WEB_EVENTS_PORT are both 8001"),
        ({"WEB_PORT": "5000"}, "VROOM_WEB_PORT and VROOM_MLFLOW_PORT are both 5000"),
        ({"WEB_PORT": "5000", "MLFLOW_URI": "http://mlflow.internal:5000"}, ""),
    ],
)
def test_ports_that_collide_are_named(
    ports: dict[str, str], refused: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, value in ports.items():
        monkeypatch.setenv(f"VROOM_{name}", value)
    if refused:
        with pytest.raises(SettingsError, match=refused):
            read_settings()
    else:
        assert read_settings().web_port == 5000


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig"])
def test_a_file_of_settings_is_read(folder: Path, encoding: str) -> None:
    (folder / ".env").write_text("VROOM_MODEL_NAME=Prévision\nVROOM_HOME=~/Daten ö\n", encoding=encoding)
    settings = read_settings()
    assert (settings.model_name, settings.home) == ("Prévision", folder / "Daten ö")


@pytest.mark.parametrize(
    ("content", "words"),
    [
        ("VROOM_MODEL_NAME=Prévision\n".encode("utf-16"), "UTF-8"),
        ("VROOM_MODEL_NAME=Prevision\n".encode("utf-16-le"), "UTF-8"),
        ("VROOM_MODEL_NAME=Prévision\n".encode("latin-1"), "UTF-8"),
        (b"VROOM_WEB_PORT=8100\nVROOM_HOME: var\n", "line 2"),
    ],
)
def test_a_file_of_settings_that_cannot_be_read_is_named(folder: Path, content: bytes, words: str) -> None:
    (folder / ".env").write_bytes(content)
    assert_refused(str(folder / ".env"), words)


def test_every_file_of_an_odd_home_stays_in_it(folder: Path) -> None:
    home = folder / ODD
    for database in (Settings(_env_file=None, home=home).source_database, sqlite_address(home / "other?.db")):
        SourceStore.open(database).close()
    assert sorted(path.name for path in folder.rglob("*.db")) == ["other?.db", "vroom.db"]
    assert [path.name for path in folder.iterdir()] == [ODD]


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
