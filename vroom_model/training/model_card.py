"""The model card: what a person should know of a model before using it, in Markdown and two plots."""

from datetime import UTC
from pathlib import Path

from matplotlib.figure import Figure

from vroom_model.dataset import LIMIT_QUANTILE, LIMIT_TIMES
from vroom_model.manifest import ModelManifest

CARD_NAME = "model_card.md"
CALIBRATION_NAME = "calibration.png"
SEGMENTS_NAME = "error_by_segment.png"
PLOTS = f"""
## Plots

![Forecast against outcome, by tenth of the forecast]({CALIBRATION_NAME})

![Error by price segment]({SEGMENTS_NAME})
"""
INK = "#1f4e79"


def write_card(manifest: ModelManifest, directory: Path | str) -> str:
    """Write the card with its plots into a folder; return its text, without links to the plots."""
    text, directory = card_text(manifest), Path(directory)
    (directory / CARD_NAME).write_text(text + PLOTS)
    _calibration_plot(manifest).savefig(directory / CALIBRATION_NAME)
    _segment_plot(manifest).savefig(directory / SEGMENTS_NAME)
    return text


def card_text(manifest: ModelManifest) -> str:
    """Return the card in Markdown."""
    metrics = manifest.metrics
    low, high = manifest.price_ratio
    trained_at, watch_days = manifest.trained_at.astimezone(UTC), manifest.snapshot.watch_days
    watch = f"a watch of {watch_days} days" if watch_days else "a watch"
    left_out = manifest.snapshot.num_left_out
    more = f"; {left_out:,} under watch left out" if left_out else ""
    measures = [
        ["mean absolute error", f"{metrics['mae']:.3f}", f"{metrics['baseline_mae']:.3f}, the median"],
        ["root mean squared error", f"{metrics['rmse']:.3f}", f"{metrics['baseline_rmse']:.3f}, the mean"],
        ["Poisson deviance", f"{metrics['deviance']:.3f}", f"{metrics['baseline_deviance']:.3f}, the mean"],
    ]
    limited = ""
    if number := int(metrics["num_limited"]):
        limited = (
            f" {number:,} with extremely many reservations counted as {LIMIT_TIMES} times the "
            f"{LIMIT_QUANTILE:.0%} quantile of booked vehicles."
        )
    segments = [
        [s.segment, f"{s.num_rows:,}", f"{s.mae:.2f}", f"{s.bias:+.2f}", f"{s.coverage:.0%}"]
        for s in manifest.segments
    ]
    folds = [[str(f.fold), f"{f.num_rows:,}", f"{f.mae:.2f}", ", ".join(f.features)] for f in manifest.folds]
    importances = [
        [i.feature, f"{i.mae_increase:+.3f}", f"{i.spread:.3f}"] for i in manifest.feature_importances
    ]
    parts = [
        "# Vroom forecast model",
        "Forecasts the reservations of a vehicle, with a range that covers "
        f"{manifest.coverage:.0%} of outcomes. Trained {trained_at:%Y-%m-%d %H:%M} UTC on snapshot "
        f"`{manifest.snapshot.id}` ({manifest.snapshot.num_rows:,} vehicles{more}), feature view "
        f"`{manifest.view.name}:{manifest.view.version}`, seed {manifest.seed}.",
        "## How good it is",
        f"Every figure is out of fold. The mean absolute error is **{metrics['mae']:.3f}** reservations "
        f"(standard error {metrics['mae_standard_error']:.3f}). The range covers {metrics['coverage']:.1%} "
        f"of outcomes and is {metrics['mean_width']:.1f} reservations wide on average.{limited}",
        _table(["measure", "this model", "the best number for all vehicles"], measures),
        _table(["segment", "vehicles", "error", "bias", "covered"], segments),
        _table(["fold", "vehicles", "error", "features its booster was trained on"], folds),
        "## What it uses",
        "Rise of the out-of-fold error when a feature is shuffled, and the spread over shuffles.",
        _table(["feature", "rise", "spread"], importances),
        "## What it is not",
        f"- It was trained on prices from {low:.2f} to {high:.2f} times the market price.\n- Prices were "
        "never set at random: how a forecast changes with the price is an association, not the effect of a "
        f"change.\n- Labels and forecasts are the reservations of {watch}; it knows no season.",
        "## How it was made",
        _table(
            ["parameter", "value"], [[name, f"{value:g}"] for name, value in sorted(manifest.params.items())]
        ),
        _table(["library", "version"], [[name, v] for name, v in sorted(manifest.libraries.items())]),
        _table(
            ["file", "SHA-256"], [[name, f"`{sha256}`"] for name, sha256 in sorted(manifest.files.items())]
        ),
    ]
    return "\n\n".join(parts) + "\n"


def _table(head: list[str], rows: list[list[str]]) -> str:
    lines = [head, ["---"] * len(head), *rows]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def _calibration_plot(manifest: ModelManifest) -> Figure:
    figure = Figure(figsize=(5, 5), layout="constrained")
    axes = figure.subplots()
    forecasts = [point.forecast for point in manifest.calibration]
    outcomes = [point.outcome for point in manifest.calibration]
    errors = [1.96 * point.standard_error for point in manifest.calibration]
    end = max([*forecasts, *outcomes, 1.0]) * 1.1
    axes.plot([0, end], [0, end], color="0.7", linewidth=1)
    axes.errorbar(forecasts, outcomes, yerr=errors, fmt="o", color=INK, capsize=3)
    axes.set(
        xlim=(0, end), ylim=(0, end), xlabel="forecast, out of fold", ylabel="reservations, mean and 95 %"
    )
    axes.set_title("Calibration by tenth of the forecast")
    return figure


def _segment_plot(manifest: ModelManifest) -> Figure:
    figure = Figure(figsize=(8, 3), layout="constrained")
    axes = figure.subplots()
    bars = axes.barh([s.segment for s in manifest.segments], [s.mae for s in manifest.segments], color=INK)
    axes.bar_label(bars, [f"{s.mae:.2f} ({s.num_rows:,})" for s in manifest.segments], padding=3)
    axes.axvline(manifest.metrics["mae"], color="0.5", linewidth=1, linestyle="--")
    axes.margins(x=0.2)
    axes.invert_yaxis()
    axes.set(xlabel="mean absolute error (vehicles)", title="Error by price segment; all together dashed")
    return figure
