"""Price segments: every vehicle is in one, and a model's figures are kept for each."""

from typing import Any

FEW_PHOTOS = 2
SEGMENTS = (
    "priced up to 10 % above market",
    "priced 10-30 % above market",
    "priced over 30 % above market, few photos",
    "priced over 30 % above market, many photos",
)
MIN_ROWS = 30
"""The figures of a segment of fewer vehicles are mostly chance: it is not judged, nor its coverage stated."""


def segment_of(price_ratio: Any, num_images: Any) -> Any:  # floats or arrays
    """Return the index into ``SEGMENTS`` of a vehicle, or of each of many, by owner's over market price.

    Examples
    --------
    >>> [segment_of(ratio, 4) for ratio in (0.9, 1.2, 1.5)]
    [0, 1, 3]
    """
    is_dear = price_ratio > 1.3
    return 1 * (price_ratio > 1.1) + is_dear + (is_dear & (num_images > FEW_PHOTOS))


def metric_name(segment: str) -> str:
    """Return a segment's name as a part of a metric's.

    Examples
    --------
    >>> [metric_name(segment) for segment in SEGMENTS[1:3]]
    ['price_10_to_30_above_market', 'price_over_30_above_market_few_photos']
    """
    words = segment.replace("priced", "price").replace("-", " to ").replace("%", "").replace(",", "")
    return "_".join(words.split())
