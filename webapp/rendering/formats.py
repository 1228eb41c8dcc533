"""One way to write numbers and moments, for every page."""

from datetime import UTC, datetime
from math import ceil

from flask import Flask

from vroom_features.vehicle import COLUMNS
from vroom_features.view import VEHICLE_VIEW
from webapp.serving.store_state import feature_unit

MARKS_STEP = 5


def count(value: float) -> str:
    """Write an expected number of reservations.

    Examples
    --------
    >>> count(6.25), count(12.0)
    ('6.2', '12.0')
    """
    return f"{value:,.1f}"


def whole(value: float) -> str:
    """Write a whole number.

    Examples
    --------
    >>> whole(1000)
    '1,000'
    """
    return f"{value:,.0f}"


def price(value: float) -> str:
    """Write a price.

    Examples
    --------
    >>> price(1045.5)
    '1,045.50'
    """
    return f"{value:,.2f}"


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
    """Write a share.

    Examples
    --------
    >>> percent(0.805)
    '80.5%'
    """
    return f"{value * 100:.1f}%".replace("-", "\N{MINUS SIGN}")


def size(num_bytes: float) -> str:
    """Write an amount of memory or disk.

    Examples
    --------
    >>> size(532), size(1_250_000), size(999_960)
    ('532 B', '1.2 MB', '1.0 MB')
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
    >>> duration(3.21), duration(75), duration(119.7)
    ('3.2 s', '1 min 15 s', '2 min 0 s')
    """
    if round(seconds, 1) < 60:
        return f"{seconds:.1f} s"
    minutes, rest = divmod(round(seconds), 60)
    return f"{minutes} min {rest} s"


def sentence(text: str) -> str:
    """Begin a text with a capital letter, as it stands alone on a page.

    Examples
    --------
    >>> sentence("no earlier champion"), sentence("")
    ('No earlier champion', '')
    """
    return text[:1].upper() + text[1:]


def plain(value: float) -> str:
    """Write a number as an input field wants it: no separators, no needless zeros.

    Examples
    --------
    >>> plain(10000000.0), plain(0.01)
    ('10000000', '0.01')
    """
    return f"{value:.10f}".rstrip("0").rstrip(".")


def share(value: float, top: float) -> str:
    """Write where a value lies between 0 and ``top``, for a drawing.

    Examples
    --------
    >>> share(5, 20)
    '25.00%'
    """
    return f"{min(max(value / top, 0.0), 1.0) * 100:.2f}%"


def scale_top(*values: float) -> int:
    """Return where a scale for these values ends.

    Examples
    --------
    >>> scale_top(), scale_top(3.0, 21.2)
    (20, 25)
    """
    return max(20, ceil(max(values, default=0) / MARKS_STEP) * MARKS_STEP)


def iso(moment: datetime) -> str:
    """Write a moment for programs; one without a zone is in UTC."""
    aware = moment if moment.tzinfo else moment.replace(tzinfo=UTC)
    return aware.astimezone(UTC).isoformat(timespec="seconds")


def utc(moment: datetime) -> str:
    """Write a moment for people; the script rewrites it in the reader's zone.

    Examples
    --------
    >>> utc(datetime(2026, 3, 1, 9, 5, tzinfo=UTC))
    '1 Mar 2026, 09:05 UTC'
    """
    aware = (moment if moment.tzinfo else moment.replace(tzinfo=UTC)).astimezone(UTC)
    return f"{aware.day} {aware:%b %Y, %H:%M} UTC"


_SHARES = {"coverage"}


def feature_name(name: str) -> str:
    """Say what a feature is, in the words of the pages.

    Examples
    --------
    >>> feature_name("price_diff"), feature_name("num_images"), feature_name("of_another_release")
    ('Price against the market', 'Photos', 'Of another release')
    """
    known = COLUMNS.get(name) or VEHICLE_VIEW.feature(name)
    return known.label if known else name.replace("_", " ").capitalize()


def metric(value: float, name: str) -> str:
    """Write a figure of a model.

    Examples
    --------
    >>> metric(0.8, "coverage"), metric(3.4, "mae")
    ('80.0%', '3.40')
    """
    return percent(value) if name in _SHARES else whole(value) if value >= 1000 else f"{value:,.2f}"


def install(app: Flask) -> None:
    """Make these available to every template."""
    app.add_template_filter(size, "bytes")
    for function in (
        count,
        whole,
        price,
        signed,
        percent,
        duration,
        plain,
        share,
        iso,
        utc,
        metric,
        feature_name,
        feature_unit,
        sentence,
    ):
        app.add_template_filter(function)
