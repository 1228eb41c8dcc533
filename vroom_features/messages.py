"""Messages over Redis: publisher and subscriber share the class, channel included.

A message is a hint that something changed; its receiver reads the database or the registry.
"""

from datetime import datetime
from typing import ClassVar, Self

from pydantic import BaseModel, ConfigDict, Field, ValidationError

PREFIX = "vroom-forecast"


class MessageError(ValueError):
    """A message cannot be understood."""


class Message(BaseModel):
    """Base of the messages; subclasses name their channel."""

    model_config = ConfigDict(frozen=True, extra="ignore")
    channel: ClassVar[str]

    @classmethod
    def channel_of(cls, prefix: str) -> str:
        """Return the channel of a deployment with another prefix."""
        return prefix + cls.channel.removeprefix(PREFIX)

    def encode(self) -> str:
        return self.model_dump_json()

    @classmethod
    def decode(cls, payload: bytes | str) -> Self:
        """Read a message; MessageError if the payload is not one of these."""
        try:
            return cls.model_validate_json(payload)
        except ValidationError as exc:
            raise MessageError(f"not a {cls.channel} message: {exc.error_count()} errors") from exc


class VehicleSaved(Message):
    """A vehicle was saved in the web app."""

    channel: ClassVar[str] = f"{PREFIX}:vehicle-saved"
    vehicle_id: int = Field(gt=0)


class VehicleDeleted(Message):
    """A vehicle that was typed in was deleted in the web app."""

    channel: ClassVar[str] = f"{PREFIX}:vehicle-deleted"
    vehicle_id: int = Field(gt=0)


class VehicleMaterialized(Message):
    """Features of vehicles were written to the online store."""

    channel: ClassVar[str] = f"{PREFIX}:vehicle-materialized"
    vehicle_ids: tuple[int, ...] = Field(
        (), max_length=1000, description="always empty; programs of an earlier release read it"
    )
    materialized_at: datetime


class RunFinished(Message):
    """A flow run ended, however it did."""

    channel: ClassVar[str] = f"{PREFIX}:run-finished"
    flow: str = Field(max_length=256)
    run_id: str = Field(max_length=256)
    state: str = Field(max_length=256, description="as Prefect shows it: Completed, Failed, TimedOut")
    message: str
