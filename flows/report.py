"""What a run says about itself: a small Markdown table for its Prefect artifact."""

from collections.abc import Mapping


def table(title: str, rows: Mapping[str, object]) -> str:
    """Return a Markdown table of names and values under a title.

    Examples
    --------
    >>> print(table("Seeded", {"vehicles_added": 3}))
    ## Seeded
    <BLANKLINE>
    | what | value |
    |---|---|
    | vehicles added | 3 |
    """
    lines = [f"| {name.replace('_', ' ')} | {str(value).replace('|', '/')} |" for name, value in rows.items()]
    return "\n".join([f"## {title}", "", "| what | value |", "|---|---|", *lines])
