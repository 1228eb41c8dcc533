"""How often a client may ask for forecasts; counted in memory, per worker."""

from typing import Any

from limits import parse
from limits.storage import MemoryStorage
from limits.strategies import FixedWindowRateLimiter

from vroom_features.settings import Settings

LIMIT_BEYOND_LOOPBACK = "6000 per minute"
COUNTED = "vroom.counted"


class ClientLimit:
    """Count forecasts per client address.

    Parameters
    ----------
    settings : Settings
        Without a limit in them, loopback has none and the rest of the world a generous one.
    """

    def __init__(self, settings: Settings) -> None:
        rule = settings.web_predict_limit or ("" if settings.is_loopback else LIMIT_BEYOND_LOOPBACK)
        self._item = parse(rule) if rule else None
        self._limiter = FixedWindowRateLimiter(MemoryStorage())

    def allows(self, environ: dict[str, Any]) -> bool:
        """Count this request, once, and tell whether it is within the limit."""
        if self._item is None:
            return True
        if COUNTED not in environ:
            environ[COUNTED] = self._limiter.hit(self._item, environ.get("REMOTE_ADDR", ""))
        allowed: bool = environ[COUNTED]
        return allowed
