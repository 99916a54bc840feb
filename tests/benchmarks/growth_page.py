"""What growth.py measured as tables, as a drawing, and as figures computed for larger markets."""

from collections.abc import Iterator, Mapping, Sequence
from io import StringIO
from pathlib import Path

import matplotlib as mpl
import numpy as np
from growth import DIRECTIONS, MEASURES, STAGES, Measured, medians, series_of
from growth_rule import LIMIT, Growth, growth_of
from matplotlib.figure import Figure

from kstock_batch.settings import Settings
from kstock_batch.training.plan import SECONDS_A_MILLION

BEGINS, ENDS = "<!-- made by tests/benchmarks/growth.py -->", "<!-- end -->"
Curves = Mapping[tuple[str, str, str], Growth]  # by direction, stage, measure

# The market this is made for, as in the README's table: 2,700 stocks in 6 years.
TICKERS = 2_700
ROWS = {"ingest": 4_649_750, "features": 3_349_282, "retrain": 2_082_144}
MULTIPLES = (1, 10, 100, 10_000)
# What one machine gives: hours from a session's cutoff to the next opening and from Sunday 03:00 to it, GB, TB.
NIGHT_H, WEEKEND_H, MEMORY_GB, DISK_TB = 14.5, 30.0, 24.0, 1.0


def growths(found: Sequence[Measured]) -> dict[tuple[str, str, str], Growth]:
    """Return the curve of each direction, stage and measure."""
    return {
        (direction, stage, measure): growth_of(series_of(found, direction, stage, measure))
        for direction in DIRECTIONS
        for stage in STAGES
        for measure in MEASURES
    }


def verdict(curves: Curves) -> int:
    """Print what breaks the claim; return the exit status."""
    worse = [key for key, curve in curves.items() if curve.is_worse_than_linear()]
    for direction, stage, measure in worse:
        curve = curves[direction, stage, measure]
        print(
            f"FAILED: {stage}, {MEASURES[measure]}, with more {direction}: exponent {curve.exponent:.3f}"
            f" ± {curve.error:.3f} is above {LIMIT}"
        )
    untold = [key for key, curve in curves.items() if not curve.is_told()]
    for direction, stage, measure in untold:
        print(f"too noisy to tell: {stage}, {MEASURES[measure]}, with more {direction}")
    if not worse:
        print(f"no stage grows worse than rows^{LIMIT} beyond the noise")
    return 1 if worse else 0


def tables(machine: str, runs: int, found: Sequence[Measured], curves: Curves) -> Iterator[str]:
    """Yield the lines of all tables."""
    yield f"Measured on {machine}; medians of {runs} runs."
    yield ""
    yield from _measured_table(found)
    yield ""
    yield from _exponent_table(curves)
    yield ""
    yield from _price_table(curves)
    yield ""
    yield from _computed_table(found, curves)


def _measured_table(found: Sequence[Measured]) -> Iterator[str]:
    yield "| stage | market | rows | wall s | processor s | peak MB | MB on disk after |\n|---|---|--:|--:|--:|--:|--:|"
    seen = set()
    for row in sorted(medians(found), key=lambda row: (STAGES.index(str(row["stage"])), row["direction"])):
        market = f"{row['tickers']:,} stocks x {row['sessions']:,} sessions"
        if (row["stage"], market) in seen:
            continue
        seen.add((row["stage"], market))
        yield (
            f"| {row['stage']} | {market} | {row['rows']:,} | {row['wall']:.1f} | {row['cpu']:.1f}"
            f" | {row['peak_mb']:,.0f} | {float(row['bytes']) / 1e6:,.1f} |"
        )


def _exponent_table(curves: Curves) -> Iterator[str]:
    yield f"| exponent, with more … | {' | '.join(MEASURES.values())} |\n|---|{'--:|' * len(MEASURES)}"
    for direction in DIRECTIONS:
        for stage in STAGES:
            cells = [curves.get((direction, stage, measure)) for measure in MEASURES]
            yield f"| {direction}: {stage} | {' | '.join(map(_exponent, cells))} |"


def _exponent(curve: Growth | None) -> str:
    if curve is None:
        return ""
    if curve.exponent is None or curve.error is None:
        return "does not grow"
    text = f"{curve.exponent:.2f} ± {curve.error:.2f}"
    return f"**{text}**" if curve.is_worse_than_linear() else text if curve.is_told() else f"{text}, too noisy"


def _price_table(curves: Curves) -> Iterator[str]:
    yield "| a row more, of … | µs | µs of a processor | bytes of memory | bytes on disk |\n|---|--:|--:|--:|--:|"
    for direction in DIRECTIONS:
        for stage in STAGES:
            prices = [curves[direction, stage, measure].per_row for measure in MEASURES]
            seconds, memory, disk = prices[:2], prices[2] * 1e6, prices[3]
            told = [*(f"{1e6 * price:.2f}" for price in seconds), f"{memory:,.0f}", f"{disk:,.0f}"]
            yield f"| {direction}: {stage} | {' | '.join(told)} |"


def fits_of(settings: Settings) -> float:
    """Return the windows that all fits of a retrain learn from together, by those of the training span."""
    share, folds = settings.validation_share, settings.n_folds
    return 1 + sum(1 - share + share * fold / folds for fold in range(folds))


def computed(found: Sequence[Measured], curves: Curves, times: float) -> dict[str, tuple[float, float]]:
    """Return what a market of ``times`` the Korean one's stocks would take, and what there is, by name.

    The price of a row is that of the step to the most tickers, the start that of the fit: linear, as the exponents say.
    A retrain's hours are those of its default settings, whose pace `retrain --dry-run` uses.
    """
    largest = max(
        (one for one in found if one.direction == "tickers" and one.stage == "score"), key=lambda one: one.tickers
    )
    night = largest.rows / largest.tickers * TICKERS * times

    def curve(stage: str, measure: str) -> Growth:
        return curves["tickers", stage, measure]

    gb = 1e-3
    learnt = ROWS["retrain"] * times
    return {
        "hours of the first ingest": (curve("ingest", "wall").of(ROWS["ingest"] * times) / 3600, WEEKEND_H),
        "GB of memory of the first ingest": (curve("ingest", "peak_mb").of(ROWS["ingest"] * times) * gb, MEMORY_GB),
        "hours of a backfill of features": (curve("features", "wall").of(ROWS["features"] * times) / 3600, WEEKEND_H),
        "GB of memory of a backfill": (curve("features", "peak_mb").of(ROWS["features"] * times) * gb, MEMORY_GB),
        "hours of a retrain": (learnt * fits_of(Settings()) * SECONDS_A_MILLION / 1e6 / 3600, WEEKEND_H),
        "GB of memory of a retrain": (curve("retrain", "peak_mb").of(learnt) * gb, MEMORY_GB),
        "hours of a night's score": (curve("score", "wall").of(night) / 3600, NIGHT_H),
        "GB of memory of a night's score": (curve("score", "peak_mb").of(night) * gb, MEMORY_GB),
        "TB on disk": (curve("score", "bytes").of(ROWS["features"] * times) / 1e12, DISK_TB),
    }


def broken(figures: Mapping[str, tuple[float, float]]) -> list[str]:
    """Return the limits that are passed, the one that is passed furthest first."""
    by_much = {name: value / limit for name, (value, limit) in figures.items() if value > limit}
    return sorted(by_much, key=lambda name: -by_much[name])


def _computed_table(found: Sequence[Measured], curves: Curves) -> Iterator[str]:
    columns = {times: computed(found, curves, times) for times in MULTIPLES}
    yield f"| computed | there is | {' | '.join(f'{times:,}×' for times in MULTIPLES)} |"
    yield f"|---|--:|{'--:|' * len(MULTIPLES)}"
    for name, (_, limit) in columns[1].items():
        cells = [_cell(*columns[times][name]) for times in MULTIPLES]
        yield f"| {name} | {limit:g} | {' | '.join(cells)} |"
    first = [(broken(columns[times]) or ["nothing"])[0] for times in MULTIPLES]
    yield f"| **furthest beyond** | | {' | '.join(first)} |"


def _cell(value: float, limit: float) -> str:
    text = f"{value:,.0f}" if value >= 100 else f"{value:.2g}"
    return f"**{text}**" if value > limit else text


def drawing(found: Sequence[Measured], curves: Curves) -> str:
    """Return time and memory by rows as SVG: what was measured and the curves through it."""
    style = {"svg.fonttype": "none", "svg.hashsalt": "growth", "font.size": 9, "legend.fontsize": 8}
    with mpl.rc_context({**style, "axes.spines.top": False, "axes.spines.right": False}):
        figure = Figure(figsize=(9, 6), layout="constrained", facecolor="white")
        grid = figure.subplots(2, 2, sharex="col")
        for column, direction in enumerate(DIRECTIONS):
            for line, (measure, name) in enumerate((("wall", "wall seconds"), ("peak_mb", "peak MB"))):
                axes = grid[line, column]
                for number, stage in enumerate(STAGES):
                    series, curve = series_of(found, direction, stage, measure), curves[direction, stage, measure]
                    points = [(rows, value) for rows, values in series.items() for value in values]
                    axes.plot(*zip(*points, strict=True), "o", color=f"C{number}", markersize=3)
                    rows = np.geomspace(min(series), max(series))
                    fitted = curve.start + curve.scale * rows ** (curve.exponent or 0.0)
                    axes.plot(rows, fitted, color=f"C{number}", linewidth=1.2, label=stage)
                axes.set(xscale="log", yscale="log", ylabel=name)
                axes.grid(linewidth=0.4, alpha=0.5)
            grid[0, column].set_title(f"more {direction}")
            grid[1, column].set_xlabel("rows the stage works through")
        grid[0, 0].legend(frameon=False)
        file = StringIO()
        figure.savefig(file, format="svg", metadata={"Date": None, "Creator": None})
    return "\n".join(line.rstrip() for line in file.getvalue().splitlines()) + "\n"


def page_with(page: Path, machine: str, runs: int, found: Sequence[Measured], curves: Curves) -> None:
    """Put tables between the marks of ``page``, and the drawing beside it as growth.svg."""
    before, _, rest = page.read_text(encoding="utf-8").partition(BEGINS)
    _, mark, after = rest.partition(ENDS)
    if not mark:
        raise SystemExit(
            f"{page} has no marks: write {BEGINS} and {ENDS} on lines of their own where the tables belong"
        )
    made = "\n".join(tables(machine, runs, found, curves))
    drawn = "![time and memory by rows](growth.svg)"
    page.write_text(f"{before}{BEGINS}\n\n{made}\n\n{drawn}\n\n{ENDS}{after}", encoding="utf-8")
    page.with_name("growth.svg").write_text(drawing(found, curves), encoding="utf-8")
