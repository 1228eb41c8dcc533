"""The automation that reports lost runs; it needs Prefect alone, as there is wherever flows run."""

import asyncio
from datetime import timedelta

from prefect.client.orchestration import get_client
from prefect.client.schemas.objects import StateType
from prefect.events.actions import ChangeFlowRunState
from prefect.events.schemas.automations import AutomationCore, EventTrigger, Posture
from prefect.events.schemas.events import ResourceSpecification

LOST_AFTER = timedelta(seconds=90)
"""Three heartbeats, as prefect.toml sets them."""
ENDS = ("Completed", "Failed", "Cancelled", "Crashed")


def start_automation() -> None:
    """Create the automation."""
    asyncio.run(create_automation())


async def create_automation(lost_after: timedelta = LOST_AFTER) -> None:
    """Have Prefect set runs to Crashed that send no heartbeat for too long, from Pending on.

    A run whose process is gone reports nothing by itself, and the next run of its deployment waits for it.

    Prefect's documentation has this automation under "How to detect and respond to zombie flows", but from
    the first heartbeat on.  An existing one is not updated: Prefect would forget the runs that it watches.
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
