"""The drill's one look at the clock."""

from datetime import UTC, datetime


def now() -> datetime:
    """Return the moment."""
    return datetime.now(UTC)  # noqa: TID251 - the drill is a command
