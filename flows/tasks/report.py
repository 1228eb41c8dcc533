"""What a run says about itself: a small Markdown table, and a link to the model, as Prefect artifacts."""

import logging
from asyncio import to_thread
from collections.abc import Mapping

from prefect.artifacts import acreate_link_artifact

from vroom_features.settings import Settings
from vroom_model.errors import VroomModelError
from vroom_model.registry.registry import Registry

logger = logging.getLogger(__name__)
MODEL_LINK_KEY = "mlflow-run"
LEFT_OUT = "booked vehicles from the web form left out"


def table(title: str, rows: Mapping[str, object]) -> str:
    """Return a Markdown table of names and values under a title.

    Examples
    --------
    >>> print(table("Seeded", {"vehicles_added": 3}))
    ## Seeded
    <BLANKLINE>
    | what | value |
    |---|---|
    | vehicles added | 3 |
    """
    lines = [f"| {name.replace('_', ' ')} | {str(value).replace('|', '/')} |" for name, value in rows.items()]
    return "\n".join([f"## {title}", "", "| what | value |", "|---|---|", *lines])


def counted(number: int, noun: str) -> str:
    """Write so many of something.

    Examples
    --------
    >>> counted(1_000, "vehicle"), counted(1, "vehicle")
    ('1,000 vehicles', '1 vehicle')
    """
    return f"{number:,} {noun}{'' if number == 1 else 's'}"


def left_out(number: int) -> str:
    """Write the end of a sentence about vehicles: how many others were left out, nothing if none was.

    Examples
    --------
    >>> left_out(25), left_out(0)
    ('; 25 booked vehicles from the web form left out', '')
    """
    return f"; {counted(number, 'booked vehicle')} from the web form left out" if number else ""


async def link_model(settings: Settings, version: int) -> None:
    """Link this run to the MLflow run that made a version; a run that is done does not fail for a link."""

    def run_id() -> str:
        with Registry(settings.mlflow, settings.model_name) as registry:
            return registry.version(version).run_id

    try:
        link = f"{settings.mlflow}/#/runs/{await to_thread(run_id)}"
    except VroomModelError as exc:
        logger.warning("no link to model version %s: %s", version, exc)
        return
    await acreate_link_artifact(link=link, link_text=f"model {version} in MLflow", key=MODEL_LINK_KEY)
