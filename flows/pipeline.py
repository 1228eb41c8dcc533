"""Train, then promote: what the Train button starts."""

from typing import cast

from prefect import State, flow
from prefect.states import Completed

from flows.promotion import report_outcome, vroom_forecast_promotion
from flows.tasks.messages import publish
from flows.training import vroom_forecast_training
from vroom_features.settings import Settings
from vroom_model.messages import PipelineCompleted
from vroom_model.records import Outcome


@flow(name="vroom_forecast_pipeline", timeout_seconds=9000)
async def vroom_forecast_pipeline(seed: int = 0) -> State[Outcome]:
    """Run training and promotion as subflows, and tell the web app how it ended.

    Parameters
    ----------
    seed : int
        Of the training.
    """
    settings = Settings()
    # Prefect hands on a returned state's data; its types do not know.
    version = cast("int", await vroom_forecast_training(seed=seed))
    outcome = cast("Outcome", await vroom_forecast_promotion(version=version))
    publish(
        settings,
        PipelineCompleted(
            model_name=settings.model_name,
            version=version,
            promoted=outcome.promoted,
            reason=outcome.decision.reason,
        ),
    )
    message = await report_outcome(settings, outcome, title="Trained and promoted", key="pipeline")
    return Completed(message=message, data=outcome)
