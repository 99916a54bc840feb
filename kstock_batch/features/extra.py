"""Extra features: computed with each block, and alone over all sessions when one is new or defined anew."""

from collections.abc import Sequence
from datetime import date, timedelta

import duckdb
import numpy as np
import polars as pl

from kstock_batch.errors import ConfigError
from kstock_batch.features.knowledge import Block, Knowledge
from kstock_batch.features.prices import Series, is_served
from kstock_batch.market.contract import FEATURE_NAMES
from kstock_batch.market.extra_features import MAX_BARS, ExtraFeature
from kstock_batch.store.queries import Query, sql_folder

Extras = Sequence[ExtraFeature]

_OWN_COLUMNS = frozenset(
    {"ticker", "as_of", "close", "bars_available", "null_feature_count", "is_scoreable", "feature_set_version"}
)


def with_extras(
    con: duckdb.DuckDBPyConnection,
    rows: pl.DataFrame,
    series: Series,
    block: Block,
    extras: Extras,
    knowledge: Knowledge,
) -> pl.DataFrame:
    """Return ``rows`` (ticker, as_of and more) with a float32 column for each of ``extras``; NaN becomes null."""
    own = [extra for extra in extras if extra.expression is not None]
    if own:
        found = _of_bars(series, own, block)
        rows = rows.join(found, on=["ticker", "as_of"], how="left", validate="1:1", maintain_order="left")
    for extra in extras:
        if extra.expression is None:
            rows = _with_statement(con, rows, extra, block, knowledge)
    values = (pl.col(extra.name).cast(pl.Float32) for extra in extras)
    return rows.with_columns(values).with_columns(
        pl.when(pl.col(extra.name).is_finite()).then(extra.name).alias(extra.name) for extra in extras
    )


def _of_bars(series: Series, extras: Extras, block: Block) -> pl.DataFrame:
    """Return ticker, as_of and the values of expressions over bars, for the rows each series serves."""
    position = pl.int_range(1, pl.len() + 1).over("series")
    values = (
        pl.when(position >= extra.n_bars).then(extra.expression.over("series", order_by="session")).alias(extra.name)
        for extra in extras
        if extra.expression is not None
    )
    wanted = pl.col("session").is_between(block.start, block.end) & is_served("session")
    found = series.frame.with_columns(values).filter(wanted)
    return found.select("ticker", pl.col("session").alias("as_of"), *(extra.name for extra in extras))


def _with_statement(
    con: duckdb.DuckDBPyConnection, rows: pl.DataFrame, extra: ExtraFeature, block: Block, knowledge: Knowledge
) -> pl.DataFrame:
    found = Query.load(f"extra/{extra.name}").frame(con, start=block.start, end=block.end, **knowledge.params)
    key = [name for name in ("ticker", "as_of") if name in found.columns]
    if set(found.columns) != {*key, extra.name} or "as_of" not in key:
        raise ConfigError(
            f"sql/extra/{extra.name}.sql returns {found.columns}",
            fix=f"return as_of, ticker unless it is the same for all, and {extra.name}",
        )
    return rows.join(found, on=key, how="left", validate="m:1", maintain_order="left")


def digest_of(extra: ExtraFeature) -> str:
    """Return a digest that changes with the definition of one extra feature."""
    if extra.expression is not None:
        return extra.digest(None)
    path = sql_folder() / "extra" / f"{extra.name}.sql"
    if not path.is_file():
        raise ConfigError(
            f"the extra feature {extra.name} has no definition", fix=f"give it an expression, or write {path}"
        )
    return extra.digest(path.read_text(encoding="utf-8"))


def require_sound(extras: Extras) -> None:
    """Raise for names that are taken, and for expressions whose value a night could not know or not repeat."""
    names = [extra.name for extra in extras]
    if taken := sorted(name for name in names if names.count(name) > 1 or name in {*FEATURE_NAMES, *_OWN_COLUMNS}):
        raise ConfigError(f"the extra features {taken} have names that are taken", fix="choose other names")
    for extra in extras:
        digest_of(extra)
        if extra.expression is not None:
            _require_repeatable(extra)


def _require_repeatable(extra: ExtraFeature) -> None:
    """Raise unless the expression gives the same bits on a random series with only its own bars, at any price level."""
    whole = _trial_bars(MAX_BARS + 80)
    values = _tried(extra, whole)
    for bar in range(MAX_BARS, whole.height - 1, 7):
        own = _tried(extra, whole[bar - extra.n_bars + 1 : bar + 1])
        if not own[-1:].equals(values[bar : bar + 1], null_equal=True):
            raise ConfigError(
                f"the extra feature {extra.name} differs if only its {extra.n_bars} bars are there (trial bar {bar})",
                fix="read no later bar, raise n_bars, or use window_mean: polars' rolling sums carry what came before",
            )
    doubled = whole.with_columns(pl.col("open", "high", "low", "close") * 2)  # exact, so a ratio keeps its bits
    if not _tried(extra, doubled).equals(values, null_equal=True):
        raise ConfigError(
            f"the extra feature {extra.name} changes with the price level",
            fix="make it a ratio of prices: a later split would change any other value",
        )


def _tried(extra: ExtraFeature, bars: pl.DataFrame) -> pl.Series:
    assert extra.expression is not None
    try:
        return bars.select(extra.expression.cast(pl.Float64).alias("value"))["value"]
    except pl.exceptions.PolarsError as error:
        raise ConfigError(
            f"the extra feature {extra.name} cannot be computed: {str(error).splitlines()[0]}",
            fix=f"write a numeric expression of {bars.columns}",
        ) from error


def _trial_bars(n: int) -> pl.DataFrame:
    random = np.random.default_rng(0)
    # Not whole won: sums of those would be exact, and hide that a rolling sum carries its rounding along.
    close = 20_000 * np.exp(np.cumsum(random.normal(0, 0.03, n)))
    spread = random.uniform(0, 0.03, (2, n)) * close
    return pl.DataFrame(
        {
            "session": [date(2020, 1, 1) + timedelta(days=i) for i in range(n)],
            "open": close + spread[0] / 2,
            "high": close + spread[0],
            "low": close - spread[1],
            "close": close,
            "volume": random.integers(1, 10_000, n).astype(np.float64),
        }
    )
