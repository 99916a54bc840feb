"""Backtests and their variants side by side: the first is held against each of the others on the sessions of both."""

from dataclasses import replace
from typing import Any

import duckdb
import polars as pl

from kstock_batch.backtest.assembled import BLEND
from kstock_batch.backtest.figures import SESSIONS_A_YEAR, Figure, Measure, differences, measured
from kstock_batch.backtest.stored import require_stored, session_rows
from kstock_batch.errors import ConfigError
from kstock_batch.settings import Settings
from kstock_batch.store.queries import Query
from kstock_batch.training.splits import MIN_BLOCK

LARGEST_SHARE = 0.5


def settings_of(settings: Settings, compared: str) -> list[Settings]:
    """Return the settings that "train=6,12,24,48" names: months of training sessions, one backtest each.

    Few sessions are judged by a larger share of them: each fold needs its block of sessions.
    """
    name, _, values = compared.partition("=")
    try:
        months = [int(value) for value in values.split(",")]
        if name != "train" or min(months) < 1:
            raise ValueError
    except ValueError as error:
        raise ConfigError(
            f"--compare {compared!r} names nothing that can be compared",
            fix="write --compare train=6,12,24,48: months of training",
        ) from error
    found = []
    for n in dict.fromkeys(months):
        sessions = max(round(n * SESSIONS_A_YEAR / 12), 2 * settings.n_folds * MIN_BLOCK)
        share = min(LARGEST_SHARE, max(settings.validation_share, (settings.n_folds * MIN_BLOCK + 1) / sessions))
        found.append(replace(settings, train_sessions=sessions, validation_share=round(share, 4)).checked())
    return found


def compared_variants(con: duckdb.DuckDBPyConnection, backtest_id: str) -> list[dict[str, Any]]:
    """Return by how much a backtest's blend is better than each of its other variants, with intervals."""
    rows = session_rows(con, backtest_id)
    blend = rows.filter(pl.col("variant") == BLEND)
    names = [name for name in rows["variant"].unique().sort().to_list() if name != BLEND]
    return [
        {"first": BLEND, "second": name, **figure.row()}
        for name in names
        for figure in differences(blend, rows.filter(pl.col("variant") == name))
    ]


def compared_backtests(con: duckdb.DuckDBPyConnection, names: list[str]) -> list[dict[str, Any]]:
    """Return by how much the first backtest is better than each of the others, with intervals."""
    first, *others = (str(require_stored(con, name)["backtest_id"]) for name in names)
    found = []
    for other in others:
        one, two = (session_rows(con, name).filter(pl.col("variant") == BLEND) for name in (first, other))
        told = [*differences(one, two), _excess(con, first, other)]
        found += [{"first": first, "second": other, **figure.row()} for figure in told]
    return found


def _excess(con: duckdb.DuckDBPyConnection, first: str, second: str) -> Figure:
    """Return by how much the first's top decile earned more a year, after costs."""
    daily = Query.load("backtest/portfolio").frame
    one, two = (daily(con, backtest_id=name).filter(pl.col("portfolio") == "top decile") for name in (first, second))
    both = one.join(two, on="as_of", how="inner", suffix="_two", validate="1:1").sort("as_of")
    each = both.select(r=pl.col("net_return") - pl.col("net_return_two"))
    measure = Measure((pl.col("r"),), lambda means: 100 * SESSIONS_A_YEAR * means[..., 0], pl.lit(1.0))
    return measured("top_decile_return_pct_a_year", measure, each)
