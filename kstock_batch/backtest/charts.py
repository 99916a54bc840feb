"""The drawings of a backtest's page."""

from collections.abc import Sequence

import matplotlib.dates as mdates
import numpy as np
import polars as pl
from matplotlib.axes import Axes
from matplotlib.ticker import PercentFormatter

from kstock_batch.serving.report.drawing import FIRST, FOURTH, MUTED, SECOND, THIRD, drawn

SIZE = (4.6, 2.7)
COLOURS = (FIRST, SECOND, THIRD, FOURTH, MUTED)


def tenths(rows: pl.DataFrame, base_rate: float | None, label: str) -> str:
    """Return hit rates by tenths of the session with their intervals, and what was forecast."""

    def draw(axes: Axes) -> None:
        if base_rate is not None:
            axes.axhline(base_rate, color=MUTED, linewidth=0.8, linestyle=(0, (4, 3)), label="all stocks")
        if rows["low"].null_count() == 0:
            axes.vlines(rows["decile"], rows["low"], rows["high"], color=FIRST, linewidth=3, alpha=0.35)
        axes.plot(rows["decile"], rows["hit_rate"], "o", color=FIRST, markersize=4, label="rose 3 %")
        axes.plot(rows["decile"], rows["forecast"], color=SECOND, marker="s", markersize=3, label="forecast")
        axes.set(xticks=range(1, 11), xlabel="tenth of the session by probability", ylim=(0, None))
        axes.yaxis.set_major_formatter(PercentFormatter(1, decimals=0))
        _legend(axes)

    return drawn("tenths", draw, label=label, words={}, size=SIZE)


def wealth(daily: pl.DataFrame, names: Sequence[str], label: str) -> str:
    """Return what one won became in each portfolio, after costs."""

    def draw(axes: Axes) -> None:
        for name, colour in zip(names, COLOURS, strict=False):
            part = daily.filter(pl.col("portfolio") == name)
            axes.plot(part["as_of"], part["equity"], color=colour, label=name, linewidth=1.3)
        axes.set_yscale("log")
        axes.yaxis.set_major_formatter("{x:.2g}")
        axes.yaxis.set_minor_formatter("{x:.2g}")
        _dates(axes)
        _legend(axes)

    return drawn("wealth", draw, label=label, words={}, size=SIZE)


def ranking(sessions: pl.DataFrame, label: str) -> str:
    """Return the AUC within sessions over 60 sessions each, of the blend and of volatility alone."""

    def draw(axes: Axes) -> None:
        axes.axhline(0.5, color=MUTED, linewidth=0.8, linestyle=(0, (4, 3)), label="by chance")
        for name, colour in (("blend", FIRST), ("volatility", SECOND)):
            part = sessions.filter(pl.col("variant") == name).sort("as_of")
            mean = part["auc"].fill_nan(None).rolling_mean(60, min_samples=20)
            axes.plot(part["as_of"], mean, color=colour, label=name)
        _dates(axes)
        _legend(axes)

    return drawn("ranking", draw, label=label, words={}, size=SIZE)


def correlation(sessions: pl.DataFrame, label: str) -> str:
    """Return the rank correlation with what followed, added up over the sessions."""

    def draw(axes: Axes) -> None:
        for name, colour in (("blend", FIRST), ("volatility", SECOND), ("linear", THIRD)):
            part = sessions.filter(pl.col("variant") == name).sort("as_of")
            axes.plot(part["as_of"], np.cumsum(part["ic"].fill_null(0).to_numpy()), color=colour, label=name)
        axes.axhline(0, color=MUTED, linewidth=0.8)
        _dates(axes)
        _legend(axes)

    return drawn("correlation", draw, label=label, words={}, size=SIZE)


def _dates(axes: Axes) -> None:
    axes.xaxis.set_major_locator(mdates.AutoDateLocator(minticks=2, maxticks=5))  # type: ignore[no-untyped-call]
    axes.xaxis.set_major_formatter(mdates.DateFormatter("%Y-%m"))  # type: ignore[no-untyped-call]


def _legend(axes: Axes) -> None:
    axes.legend(loc="lower left", bbox_to_anchor=(0, 1), ncols=3, borderaxespad=0.2, columnspacing=1.2)
