"""How pages write numbers, moments and features: the filters of every template."""

from datetime import UTC, date, datetime
from math import ceil

from vroom_features.watch import midnight
from webapp.serving.store_state import feature_name, feature_unit

SCALE_STEP = 5
SCALE_MIN = 20


def count(value: float) -> str:
    """Write an expected number of reservations: 6.2."""
    return f"{value:,.1f}"


def whole(value: float) -> str:
    """Write a whole number: 1,000."""
    return f"{value:,.0f}"


def two_digits(value: float) -> str:
    """Write a price, an error or an index: 1,045.50."""
    return f"{value:,.2f}"


def rough(value: float) -> str:
    """Write an income, of which two digits are known at best.

    Examples
    --------
    >>> rough(458.2), rough(12_345), rough(0.4)
    ('460', '12,000', '0')
    """
    return f"{float(f'{value:.2g}'):,.0f}"


def signed(value: float) -> str:
    """Write a difference, with its sign.

    Examples
    --------
    >>> signed(1.25), signed(0.01)
    ('+1.2', '0.0')
    """
    text = f"{abs(value):,.1f}"
    return text if text == "0.0" else ("+" if value > 0 else "\N{MINUS SIGN}") + text


def percent(value: float) -> str:
    """Write a share: 80.5%."""
    return f"{value * 100:.1f}%".replace("-", "\N{MINUS SIGN}")


def size(num_bytes: float) -> str:
    """Write an amount of memory or disk.

    Examples
    --------
    >>> size(532), size(999.6), size(1_250_000), size(999_960)
    ('532 B', '1.0 kB', '1.2 MB', '1.0 MB')
    """
    if round(num_bytes) < 1000:
        return f"{num_bytes:.0f} B"
    for unit in ("kB", "MB"):
        num_bytes /= 1000
        if round(num_bytes, 1) < 1000:
            return f"{num_bytes:.1f} {unit}"
    return f"{num_bytes / 1000:.1f} GB"


def duration(seconds: float) -> str:
    """Write how long something took.

    Examples
    --------
    >>> duration(3.21), duration(59.97), duration(75), duration(119.7)
    ('3.2 s', '1 min 0 s', '1 min 15 s', '2 min 0 s')
    """
    if round(seconds, 1) < 60:
        return f"{seconds:.1f} s"
    minutes, rest = divmod(round(seconds), 60)
    return f"{minutes} min {rest} s"


def sentence(text: str) -> str:
    """Begin a text with a capital letter."""
    return text[:1].upper() + text[1:]


def plain(value: float) -> str:
    """Write a number as an input field and a script want it: no separators, no needless zeros.

    Examples
    --------
    >>> plain(10000000.0), plain(0.01)
    ('10000000', '0.01')
    """
    return f"{value:.10f}".rstrip("0").rstrip(".")


def share(value: float, top: float) -> str:
    """Write where a value lies between 0 and ``top``, for a drawing: 25.00%."""
    return f"{min(max(value / top, 0.0), 1.0) * 100:.2f}%"


def scale_top(*values: float) -> int:
    """Return where a scale for these values ends.

    Examples
    --------
    >>> scale_top(), scale_top(3.0, 21.2)
    (20, 25)
    """
    return max(SCALE_MIN, ceil(max(values, default=0) / SCALE_STEP) * SCALE_STEP)


def iso(moment: datetime) -> str:
    """Write a moment for programs."""
    return _in_utc(moment).isoformat(timespec="seconds")


def seconds(day: date) -> int:
    """Write the beginning of a day for a chart: seconds since 1970."""
    return int(midnight(day).timestamp())


def utc(moment: datetime) -> str:
    """Write a moment for people; a script rewrites it in the reader's zone.

    Examples
    --------
    >>> utc(datetime(2026, 3, 1, 9, 5, tzinfo=UTC))
    '1 Mar 2026, 09:05 UTC'
    """
    moment = _in_utc(moment)
    return f"{moment.day} {moment:%b %Y, %H:%M} UTC"


def _in_utc(moment: datetime) -> datetime:
    return moment.astimezone(UTC) if moment.tzinfo else moment.replace(tzinfo=UTC)


NUMBERS = (count, whole, two_digits, rough, signed, percent, size, duration, plain, share)
OTHERS = (sentence, iso, seconds, utc, feature_name, feature_unit)
FILTERS = {each.__name__: each for each in (*NUMBERS, *OTHERS)}
