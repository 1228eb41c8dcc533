"""Train, then promote: the Train button of the web app starts it."""

from typing import cast

from prefect import State, flow
from prefect.states import Completed

from flows.promotion import vroom_forecast_promotion
from flows.tasks.endings import ENDS, fails_in_a_sentence
from flows.tasks.reports import publish, report_outcome
from flows.training import vroom_forecast_training
from vroom_features.settings import read_settings
from vroom_model.messages import PipelineCompleted
from vroom_model.records import Outcome


@flow(name="vroom_forecast_pipeline", timeout_seconds=9000, **ENDS)
@fails_in_a_sentence
async def vroom_forecast_pipeline(seed: int = 0) -> State[Outcome]:
    """Run training and promotion as subflows, and send the result to the web app.

    Args:
        seed: Of the training.
    """
    settings = read_settings()
    # Prefect returns the data of a returned state; its types say otherwise.
    version = cast("int", await vroom_forecast_training(seed=seed))
    outcome = cast("Outcome", await vroom_forecast_promotion(version=version))
    completed = PipelineCompleted(
        model_name=settings.model_name,
        version=version,
        promoted=outcome.promoted,
        reason=outcome.decision.reason,
    )
    publish(settings, completed)
    message = await report_outcome(settings, outcome, title="Trained and promoted", key="pipeline")
    return Completed(message=message, data=outcome)
