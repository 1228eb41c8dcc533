"""Reports of a run: artifacts and events of Prefect, the webhook, messages over Redis."""

import logging
from collections.abc import Mapping
from datetime import date
from typing import Literal

import redis
from prefect.artifacts import acreate_link_artifact, acreate_markdown_artifact
from prefect.events import emit_event

from vroom_features.messages import Message
from vroom_features.online.redis_client import describe, node_url
from vroom_features.settings import Settings
from vroom_model.records import Outcome
from vroom_model.webhook import post

logger = logging.getLogger(__name__)
MODEL_LINK_KEY = "mlflow-run"
LEFT_OUT = "vehicles under watch left out"
NEXT_MATURES = "the next watch is over on"
REDIS_TIMEOUT_S = 2.0
Announced = Literal["promoted", "refused", "rolled-back", "drifted"]


def counted(number: int, noun: str) -> str:
    """Return a number with its noun.

    Examples
    --------
    >>> counted(1_000, "vehicle"), counted(1, "vehicle")
    ('1,000 vehicles', '1 vehicle')
    """
    return f"{number:,} {noun}{'' if number == 1 else 's'}"


def left_out(number: int, next_matures: date | None) -> str:
    """Return the end of a sentence: how many vehicles under watch were left out, or nothing.

    Examples
    --------
    >>> left_out(25, date(2024, 3, 1)), left_out(0, None)
    ('; 25 vehicles under watch left out, the next until 2024-03-01', '')
    """
    until = f", the next until {next_matures}" if next_matures else ""
    return f"; {counted(number, 'vehicle')} under watch left out{until}" if number else ""


async def keep_table(
    title: str, rows: Mapping[str, object], *, key: str, about: str, sentence: str = ""
) -> None:
    """Keep a table of names and values under a title, and a sentence, as an artifact of the run."""
    lines = [f"## {title}", "", "| what | value |", "|---|---|"]
    for name, value in rows.items():
        cell = "; ".join(map(str, value)) if isinstance(value, tuple) else str(value)
        lines.append(f"| {name.replace('_', ' ')} | {cell.replace('|', '&#124;')} |")
    markdown = "\n".join([*lines, "", sentence]).strip()
    await acreate_markdown_artifact(markdown, key=key, description=about)


async def report_outcome(settings: Settings, outcome: Outcome, *, title: str, key: str) -> str:
    """Keep a decision as an artifact, link the model that it is about, and return it in a sentence."""
    decision = outcome.decision
    message = f"{decision.reason}{left_out(decision.num_left_out, decision.next_matures)}"
    numbers = decision.model_dump(exclude={"reason", "num_left_out", "next_matures"}, exclude_none=True)
    rows = {"promoted": outcome.promoted, "record": outcome.record, **numbers}
    if decision.num_vehicles is not None:
        rows |= {LEFT_OUT: decision.num_left_out, NEXT_MATURES: decision.next_matures}
    about = f"The last decision of {key}, and the numbers it rests on"
    await keep_table(title, rows, key=key, about=about, sentence=message)
    await link_model(settings, decision.candidate_version, decision.candidate_run_id)
    return message


async def link_model(settings: Settings, version: int, run_id: str | None) -> None:
    """Link the MLflow run of a model version."""
    if run_id:  # decisions of earlier releases name none
        await acreate_link_artifact(
            link=f"{settings.mlflow}/#/runs/{run_id}",
            link_text=f"model {version} in MLflow",
            key=MODEL_LINK_KEY,
            description="The MLflow run of the model version that this run is about",
        )


async def announce(settings: Settings, event: Announced, text: str, version: int, **details: object) -> None:
    """Emit an event about a model version, for Prefect's automations, and post it to the webhook."""
    model = settings.model_name
    document = {"text": text, "model_name": model, "version": version}
    emit_event(
        f"vroom.model.{event}",
        {
            "prefect.resource.id": f"vroom.model.{model}.version.{version}",
            "prefect.resource.name": f"{model} version {version}",
        },
        related=[{"prefect.resource.id": f"vroom.model.{model}", "prefect.resource.role": "model"}],
        payload=document | details,
    )
    await post(settings, {"event": event, **document})


def publish(settings: Settings, message: Message) -> None:
    """Send a message to web workers and open pages; if Redis cannot be reached, they find out by polling."""
    with redis.Redis.from_url(node_url(settings.redis), socket_timeout=REDIS_TIMEOUT_S) as client:
        try:
            client.publish(message.channel_of(settings.redis_prefix), message.encode())
        except redis.RedisError as exc:
            logger.warning("message not sent channel=%s: %s", message.channel, describe(exc))
