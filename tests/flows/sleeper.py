"""A flow that lives for a while, for tests of what becomes of runs."""

import asyncio

from prefect import flow


@flow(name="vroom_forecast_sleeper")
async def sleep(seconds: float = 600) -> None:
    """Sleep."""
    await asyncio.sleep(seconds)
