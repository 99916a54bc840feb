"""The report's charts: each takes rows and returns SVG."""

from collections.abc import Sequence
from typing import Any

import matplotlib.dates as mdates
import numpy as np
import polars as pl
from matplotlib.axes import Axes
from matplotlib.ticker import NullFormatter, PercentFormatter, StrMethodFormatter

from kstock_batch.serving.report.drawing import BAD, FIRST, FOURTH, GOOD, GROUND, MUTED, SECOND, THIRD, Words, drawn

# Inches. All but the sparkline are one width, so that their letters are one size on the page.
LOW, HIGH, SPARK = (4.6, 2.5), (4.6, 3.5), (1.6, 0.34)
WIDTH = LOW[0]


def sparkline(name: str, closes: Sequence[float], label: str) -> str:
    """Return the course of one stock's closes, its last one as a dot."""

    def draw(axes: Axes) -> None:
        axes.plot(closes, color=FIRST, linewidth=1.2)
        axes.plot(len(closes) - 1, closes[-1], "o", markersize=2.5, color=GOOD if closes[-1] >= closes[0] else BAD)

    return drawn(name, draw, label=label, words={}, size=SPARK, is_bare=True)


def reliability(rows: pl.DataFrame, promised: Sequence[tuple[float, float]], label: str, words: Words) -> str:
    """Return forecast against what came true, by tenths of the sessions; beside it what was measured out of fold."""

    def draw(axes: Axes) -> None:
        highest = 1.08 * max(
            [*rows["forecast"], *rows["hit_rate"], *(value for pair in promised for value in pair), 0.1]
        )
        axes.plot([0, highest], [0, highest], color=MUTED, linewidth=0.8, linestyle=(0, (4, 3)), label="ideal")
        if promised:
            axes.plot(*zip(*promised, strict=True), color=SECOND, marker="s", markersize=3, label="out of fold")
        axes.plot(rows["forecast"], rows["hit_rate"], color=FIRST, marker="o", markersize=4, label="came true")
        axes.set(xlim=(0, highest), ylim=(0, highest), xlabel="forecast", ylabel="rose 3 %")
        _in_percent(axes.xaxis, axes.yaxis)
        axes.legend(loc="upper left")

    return drawn("reliability", draw, label=label, words=words, size=HIGH)


def decile_hits(rows: pl.DataFrame, label: str, words: Words) -> str:
    """Return how many rose in the highest and lowest tenth over time."""

    def draw(axes: Axes) -> None:
        axes.plot(rows["as_of"], rows["top"], color=FIRST, label="highest tenth")
        axes.plot(rows["as_of"], rows["everyone"], color=MUTED, label="all")
        axes.plot(rows["as_of"], rows["bottom"], color=SECOND, label="lowest tenth")
        axes.set_ylim(bottom=0)
        _in_percent(axes.yaxis)
        _dates(axes)
        _legend_above(axes)

    return drawn("deciles", draw, label=label, words=words, size=LOW)


def ranking(rows: pl.DataFrame, promised: float | None, label: str, words: Words) -> str:
    """Return the AUC within sessions over time, and the one promised out of fold."""

    def draw(axes: Axes) -> None:
        axes.axhline(0.5, color=MUTED, linewidth=0.8, linestyle=(0, (4, 3)), label="by chance")
        if promised is not None:
            axes.axhline(promised, color=SECOND, linewidth=1, label="out of fold")
        axes.plot(rows["as_of"], rows["auc_day"], color=FIRST, label="AUC in session")
        _dates(axes)
        _legend_above(axes)

    return drawn("ranking", draw, label=label, words=words, size=LOW)


def skill(rows: pl.DataFrame, label: str, words: Words) -> str:
    """Return the Brier skill over both floors over time."""

    def draw(axes: Axes) -> None:
        axes.axhline(0, color=MUTED, linewidth=0.8, linestyle=(0, (4, 3)), label="no skill")
        axes.plot(rows["as_of"], rows["over_base_rate_pct"], color=FIRST, label="over the base rate")
        axes.plot(rows["as_of"], rows["over_volatility_pct"], color=THIRD, label="over volatility alone")
        _in_percent(axes.yaxis, largest=100)
        _dates(axes)
        _legend_above(axes)

    return drawn("skill", draw, label=label, words=words, size=LOW)


def agreement(rows: pl.DataFrame, label: str, words: Words) -> str:
    """Return what each member says in each tenth of the blend."""

    def draw(axes: Axes) -> None:
        for name, colour, marker in (("lgbm", SECOND, "s"), ("xgb", THIRD, "^"), ("lstm", FOURTH, "D")):
            if rows[name].null_count() < rows.height:
                said = rows[name].to_numpy()
                axes.plot(rows["decile"], said, color=colour, marker=marker, markersize=3.5, label=name.upper())
        axes.plot(rows["decile"], rows["blend"], color=FIRST, linewidth=2.2, label="blend")
        axes.set(xticks=range(1, 11), xlabel="tenth of the blend", ylim=(0, None))
        _in_percent(axes.yaxis)
        _legend_above(axes)

    return drawn("agreement", draw, label=label, words=words, size=HIGH)


def drift_map(features: Sequence[str], days: Sequence[Any], share: np.ndarray, label: str) -> str:
    """Return each feature's PSI on each session as a share of its limit, (F, T); NaN where none can be said."""

    def draw(axes: Axes) -> None:
        # Opacity instead of a colour map: so it fits light and dark. A cross marks what is a finding.
        for row, column in zip(*np.nonzero(np.isfinite(share)), strict=True):
            value = float(share[row, column])
            colour = BAD if value > 1 else FIRST
            axes.fill_between(
                [column - 0.46, column + 0.46],
                row - 0.46,
                row + 0.46,
                color=colour,
                alpha=min(1.0, 0.05 + 0.95 * min(value, 1.0)),
                linewidth=0,
            )
            if value > 1:
                axes.plot(column, row, "x", color=GROUND, markersize=4)
        axes.set(xlim=(-0.5, len(days) - 0.5), ylim=(len(features) - 0.5, -0.5))
        axes.set_yticks(range(len(features)), features, fontsize=7)
        step = max(1, len(days) // 6)
        axes.set_xticks(range(0, len(days), step), [f"{day:%m-%d}" for day in days[::step]], fontsize=7)
        axes.grid(visible=False)
        axes.tick_params(length=0)

    return drawn("drift", draw, label=label, words={}, size=(WIDTH, 0.4 + 0.16 * len(features)))


def coverage(rows: pl.DataFrame, label: str, words: Words) -> str:
    """Return the share of stocks scored, session by session."""

    def draw(axes: Axes) -> None:
        axes.fill_between(rows["as_of"], 0, rows["share"].to_numpy(), color=FIRST, alpha=0.18, linewidth=0)
        axes.plot(rows["as_of"], rows["share"], color=FIRST, label="share of stocks scored")
        axes.set_ylim(0, 1.02)
        _in_percent(axes.yaxis)
        _dates(axes)
        _legend_above(axes)

    return drawn("coverage", draw, label=label, words=words, size=LOW)


def training(history: Sequence[dict[str, Any]], label: str, words: Words) -> str:
    """Return the LSTM's losses over its passes."""
    passes = range(1, len(history) + 1)

    def draw(axes: Axes) -> None:
        for key, colour, told in (("train_loss", FIRST, "training"), ("validation_loss", SECOND, "validation")):
            losses = [np.nan if row.get(key) is None else row[key] for row in history]
            if not np.isnan(losses).all():
                axes.plot(passes, losses, color=colour, marker="o", markersize=3, label=told)
        axes.set(xlabel="pass", ylabel="log-loss", xticks=passes)
        _legend_above(axes)

    return drawn("lstm_training", draw, label=label, words=words, size=LOW)


def run_times(rows: pl.DataFrame, label: str, words: Words) -> str:
    """Return how long the newest nights took."""

    def draw(axes: Axes) -> None:
        seconds = rows["seconds"].to_numpy()
        axes.bar(range(rows.height), seconds, color=FIRST, width=0.7)
        if seconds.max() > 10 * np.median(seconds):  # a night that caught up many
            axes.set_yscale("log")
            axes.yaxis.set_major_formatter(StrMethodFormatter("{x:g}"))
            axes.yaxis.set_minor_formatter(NullFormatter())
        axes.set(xticks=[], ylabel="seconds", xlabel="newest nights, oldest first")
        axes.grid(axis="x", visible=False)

    return drawn("run_times", draw, label=label, words=words, size=LOW)


def _dates(axes: Axes) -> None:
    axes.xaxis.set_major_locator(mdates.AutoDateLocator(minticks=2, maxticks=5))  # type: ignore[no-untyped-call]
    axes.xaxis.set_major_formatter(mdates.DateFormatter("%Y-%m-%d"))  # type: ignore[no-untyped-call]


def _in_percent(*which: Any, largest: float = 1) -> None:
    for axis in which:
        axis.set_major_formatter(PercentFormatter(largest, decimals=0))


def _legend_above(axes: Axes) -> None:
    axes.legend(loc="lower left", bbox_to_anchor=(0, 1), ncols=4, borderaxespad=0.2, columnspacing=1.2)
