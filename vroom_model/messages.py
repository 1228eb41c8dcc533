"""Messages about models."""

from typing import ClassVar

from pydantic import Field

from vroom_features.messages import PREFIX, Message


class ModelPromoted(Message):
    """The champion alias moved."""

    channel: ClassVar[str] = f"{PREFIX}:model-promoted"
    model_name: str = Field(max_length=256)
    version: int = Field(gt=0)
    epoch: int = Field(default=0, ge=0, description="number of the record in the history of promotions")


class ModelLoaded(Message):
    """A web worker serves another model."""

    channel: ClassVar[str] = f"{PREFIX}:model-loaded"
    model_name: str = Field(max_length=256)
    version: int = Field(gt=0)
    worker: str = Field(max_length=256)


class PipelineCompleted(Message):
    """A pipeline run completed, with or without a promotion."""

    channel: ClassVar[str] = f"{PREFIX}:pipeline-completed"
    model_name: str = Field(max_length=256)
    version: int = Field(gt=0)
    promoted: bool
    reason: str
