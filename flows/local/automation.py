"""The automation of Prefect that reports lost runs: a run whose process is gone reports nothing by itself.

Until it has an end, a run keeps the one place of its deployment, and the web app waits for it.
"""

from datetime import timedelta

from prefect.client.orchestration import get_client
from prefect.client.schemas.objects import StateType
from prefect.events.actions import ChangeFlowRunState
from prefect.events.schemas.automations import AutomationCore, EventTrigger, Posture
from prefect.events.schemas.events import ResourceSpecification

LOST_AFTER = timedelta(seconds=90)
"""Three heartbeats, as prefect.toml sets them."""
ENDS = ("Completed", "Failed", "Cancelled", "Crashed")


async def create_automation(lost_after: timedelta = LOST_AFTER) -> None:
    """Have Prefect set runs of ours to Crashed that send no heartbeat for too long, from Pending on.

    It is the automation of Prefect's documentation, "How to detect and respond to zombie flows", which begins
    with the first heartbeat.  One of an earlier start stays as it is: an update has Prefect forget the runs
    that it watches.
    """
    automation = AutomationCore(
        name="Crash zombie flows",
        trigger=EventTrigger(
            after={"prefect.flow-run.Pending", "prefect.flow-run.heartbeat"},
            expect={f"prefect.flow-run.{event}" for event in ("heartbeat", *ENDS)},
            match=ResourceSpecification({"prefect.resource.id": ["prefect.flow-run.*"]}),
            match_related=ResourceSpecification(
                {"prefect.resource.role": ["flow"], "prefect.resource.name": ["vroom_forecast_*"]}
            ),
            for_each={"prefect.resource.id"},
            posture=Posture.Proactive,
            threshold=1,
            within=lost_after,
        ),
        actions=[
            ChangeFlowRunState(
                state=StateType.CRASHED, message="its process reports nothing any more; start it again"
            )
        ],
    )
    async with get_client() as client:
        if not await client.read_automations_by_name(automation.name):
            await client.create_automation(automation)
