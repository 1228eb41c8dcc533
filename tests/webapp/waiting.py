"""Waiting for what another thread or process will do, with a bound."""

from collections.abc import Callable

from tenacity import RetryError, Retrying, retry_if_not_result, stop_after_delay, wait_fixed


def wait_until(is_so: Callable[[], object], *, timeout_s: float = 10.0) -> None:
    waiting = Retrying(
        stop=stop_after_delay(timeout_s), wait=wait_fixed(0.02), retry=retry_if_not_result(bool)
    )
    try:
        waiting(is_so)
    except RetryError as exc:
        raise AssertionError(f"not so after {timeout_s} s: {exc.last_attempt}") from exc
