"""However a flow ends, its state is one sentence, its log has no traceback, and open pages are told."""

from collections.abc import Callable
from contextlib import closing
from functools import partial
from typing import Any

import pytest
import redis as redis_py
from prefect import State
from tenacity import wait_none

from flows.materialize import vroom_forecast_materialize
from flows.monitor import vroom_forecast_monitor
from flows.pipeline import vroom_forecast_pipeline
from flows.promotion import vroom_forecast_promotion
from flows.rollback import vroom_forecast_rollback
from flows.training import vroom_forecast_training
from tests.flows.conftest import log_of, run
from tests.ports import free_port
from tests.vroom_features.stores import store_fleet
from vroom_features.messages import RunFinished
from vroom_features.settings import Settings
from vroom_model import webhook

pytestmark = pytest.mark.usefixtures("prefect_server")


def messages_of(
    redis: redis_py.Redis, start: Callable[[], State[Any]]
) -> tuple[State[Any], list[RunFinished]]:
    """Run a flow; return its state and what open pages were sent at its end."""
    with closing(redis.pubsub()) as channel:
        channel.subscribe(RunFinished.channel)
        assert channel.get_message(timeout=10)["type"] == "subscribe"
        state = start()
        sent = []
        while message := channel.get_message(timeout=0.2):
            sent.append(RunFinished.decode(message["data"]))
    return state, sent


NO_SNAPSHOT = "holds no snapshot; run materialize first"


@pytest.mark.parametrize(
    ("flow", "parameters", "sentence"),
    [
        (vroom_forecast_training, {}, NO_SNAPSHOT),
        (vroom_forecast_pipeline, {}, NO_SNAPSHOT),
        (vroom_forecast_promotion, {}, NO_SNAPSHOT),
        (vroom_forecast_monitor, {}, NO_SNAPSHOT),
        (vroom_forecast_rollback, {}, "there is no earlier champion to go back to"),
        (vroom_forecast_materialize, {"data_dir": "nowhere"}, "nowhere"),
        (vroom_forecast_materialize, {"as_of": "2999-01-01"}, "expected a day that is over"),
    ],
)
def test_what_is_missing_is_one_sentence_and_no_traceback(
    flow_settings: Settings,
    redis: redis_py.Redis,
    flow: Any,
    parameters: dict[str, object],
    sentence: str,
) -> None:
    state, sent = messages_of(redis, partial(run, flow, **parameters))
    assert state.is_failed()
    assert sentence in str(state.message)
    assert not str(state.message).startswith(("Flow run", "Task run"))
    assert (sent[-1].flow, sent[-1].state, sent[-1].message) == (flow.name, "Failed", state.message)
    log = log_of(state)
    assert f"Finished in state Failed({state.message!r})" in log
    assert "Traceback" not in log
    assert "NoneType: None" not in log


def test_a_warning_of_a_library_is_in_the_log_of_the_run(
    flow_settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(webhook, "WAIT", wait_none())
    monkeypatch.setenv("VROOM_WEBHOOK_URL", f"http://127.0.0.1:{free_port()}")
    state = run(vroom_forecast_rollback)
    assert "to allow that set VROOM_WEBHOOK_ALLOW_PRIVATE=true" in log_of(state)


def test_a_setting_that_is_refused_is_one_sentence(
    flow_settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("VROOM_KEEP_SNAPSHOTS", "none")
    state = run(vroom_forecast_monitor)
    assert str(state.message).startswith("VROOM_KEEP_SNAPSHOTS: ")
    assert "Traceback" not in log_of(state)


def test_open_pages_are_told_that_a_check_for_drift_is_done(
    flow_settings: Settings, redis: redis_py.Redis
) -> None:
    store_fleet(flow_settings.home)
    state, (told,) = messages_of(redis, partial(run, vroom_forecast_monitor))
    assert told == RunFinished(
        flow="vroom_forecast_monitor",
        run_id=str(state.state_details.flow_run_id),
        state="Completed",
        message="there is no champion to monitor yet; run the pipeline first",
    )
