"""Errors of the model library.

::

    VroomModelError
    ├── BrokenModelError        a model directory cannot be trusted: the message says which part
    ├── TrainingDataError       a snapshot cannot be learned from
    ├── BaselineError           a trained model does not beat the median
    ├── RegistryError           MLflow cannot be reached or answers with an error
    │   ├── ModelNotFoundError  no such version, or no version under that alias
    │   ├── AlreadyRecordedError  what was to be made there exists
    │   └── WriteCollisionError  another's writing got in between, again and again
    ├── PromotionRaceError      another promotion got in between, again and again
    ├── ForceReasonError        a forced promotion without a written reason
    ├── LongReasonError         a reason longer than what is kept with a decision
    └── RollbackError           there is no earlier champion to go back to
"""

from pathlib import Path


class VroomModelError(Exception):
    """Base of every error this library raises on purpose."""


class BrokenModelError(VroomModelError):
    """A model directory is incomplete, altered, or not made for this program."""

    def __init__(self, directory: Path, problem: str) -> None:
        self.directory = directory
        self.problem = problem
        super().__init__(f"the model in {directory} cannot be used: {problem}")


class TrainingDataError(VroomModelError):
    """A snapshot cannot be learned from; the message says what is wrong with it."""


class BaselineError(VroomModelError):
    """A trained model does not beat the median of the labels."""

    def __init__(self, mae: float, baseline_mae: float) -> None:
        self.mae = mae
        self.baseline_mae = baseline_mae
        super().__init__(
            f"the model's out-of-fold error {mae:.3f} does not beat the median's {baseline_mae:.3f}: "
            "the features say nothing about these labels; check the data before training again"
        )


class RegistryError(VroomModelError):
    """The model registry cannot be reached, or answers with an error."""


class ModelNotFoundError(RegistryError):
    """The registry has no such model version."""


class AlreadyRecordedError(RegistryError):
    """The registry has what was to be made in it."""


class WriteCollisionError(RegistryError):
    """The registry could not write, as a rule because another was writing the same."""


class PromotionRaceError(VroomModelError):
    """Other promotions got in between each time this one was decided."""


class ForceReasonError(VroomModelError):
    """A promotion is to be forced, and nobody says why."""

    def __init__(self) -> None:
        super().__init__(
            "a forced promotion needs a written reason, which is kept with it: say why it overrules the gate"
        )


class LongReasonError(VroomModelError):
    """A reason is longer than what is kept with a decision."""

    def __init__(self, *, length: int, longest: int) -> None:
        super().__init__(
            f"the reason has {length:,} characters; say it in {longest}, it is kept with the decision"
        )


class RollbackError(VroomModelError):
    """There is no earlier champion to go back to."""
