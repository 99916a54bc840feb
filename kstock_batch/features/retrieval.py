"""Point-in-time retrieval: the features that were known for any list of (ticker, as_of)."""

from collections.abc import Sequence
from datetime import time
from pathlib import Path

import duckdb
import polars as pl

from kstock_batch.errors import ConfigError, SourceError
from kstock_batch.features.sessions import read_sessions
from kstock_batch.market.contract import FEATURE_NAMES
from kstock_batch.quoting import quoted_name


def read_features(
    con: duckdb.DuckDBPyConnection,
    spine: pl.DataFrame,
    names: Sequence[str] = FEATURE_NAMES,
    *,
    max_age_sessions: int = 0,
) -> pl.DataFrame:
    """Return ``spine`` row for row with ``feature_as_of`` and the named columns of feature_daily.

    Parameters
    ----------
    spine : ticker and as_of (date), and whatever else; a day without a session means the last session before it
    max_age_sessions : for a ticker without a row on that session (it did not trade), how many sessions back its newest
        row may lie; older is null
    """
    _require_spine(spine, names)
    _require_columns(con, names)
    sessions = read_sessions(con).select("session", "session_number")
    # Only the keys go through the joins: the spine's own columns may be called anything.
    keyed = (
        spine.select(pl.col("ticker").cast(pl.String), pl.col("as_of").cast(pl.Date))
        .with_row_index("spine_row")
        .sort("as_of")
        .join_asof(sessions, left_on="as_of", right_on="session", strategy="backward")
    )
    found = _rows(con, keyed.select("spine_row", "ticker", "session"), names)
    if max_age_sessions:
        found = pl.concat([found, _older_rows(con, keyed, found, sessions, names, max_age_sessions)])
    in_order = keyed.select("spine_row").join(found, on="spine_row", how="left", validate="1:1").sort("spine_row")
    return spine.with_columns(in_order.drop("spine_row").get_columns())


def _require_spine(spine: pl.DataFrame, names: Sequence[str]) -> None:
    if lacking := sorted({"ticker", "as_of"} - set(spine.columns)):
        raise ConfigError(f"the spine has no columns {lacking}", fix="give it ticker (text) and as_of (date)")
    if twice := sorted({name for name in names if list(names).count(name) > 1}):
        raise ConfigError(f"the columns {twice} are asked for twice", fix="ask for each once")
    if taken := sorted(set(spine.columns) & {"feature_as_of", *names}):
        raise ConfigError(f"the spine has columns {taken} of its own", fix="rename them: the answer uses those names")
    if not (spine.schema["ticker"] == pl.String or isinstance(spine.schema["ticker"], pl.Categorical | pl.Enum)):
        raise ConfigError(
            f"the spine's ticker has type {spine.schema['ticker']}",
            fix="write texts of six characters such as '005930'",
        )
    _require_days(spine["as_of"])


def _require_days(as_of: pl.Series) -> None:
    """Raise unless every as_of is a day: an instant within a day knows less than its evening does."""
    if as_of.dtype == pl.Date:
        return
    if not (isinstance(as_of.dtype, pl.Datetime) and as_of.dtype.time_zone is None):
        raise ConfigError(f"the spine's as_of has type {as_of.dtype}", fix="write it as a date")
    within = as_of.drop_nulls()
    if (within.dt.time() != time(0)).any():
        raise ConfigError(
            f"the spine's as_of is an instant within a day, {within.filter(within.dt.time() != time(0))[0]}",
            fix="give dates; a decision before 18:30 in Seoul knows the features of the session before",
        )


def read_spine(path: Path) -> pl.DataFrame:
    """Return a Parquet file of ticker and as_of, or say what is wrong with it."""
    try:
        spine = pl.read_parquet(path)
    except (pl.exceptions.PolarsError, OSError) as error:
        raise SourceError(
            f"{path} cannot be read as parquet: {str(error).splitlines()[0]}",
            fix="give a Parquet file of ticker, as_of",
        ) from error
    return spine


def _rows(con: duckdb.DuckDBPyConnection, wanted: pl.DataFrame, names: Sequence[str]) -> pl.DataFrame:
    """Return spine_row, feature_as_of and the columns, for the (ticker, session) that have a row."""
    columns = ", ".join(f"f.{quoted_name(name)}" for name in names)
    con.register("wanted", wanted)
    try:
        rows: pl.DataFrame = con.sql(
            f"SELECT w.spine_row, f.as_of AS feature_as_of, {columns} FROM wanted AS w"
            " JOIN feature_daily AS f ON f.ticker = w.ticker AND f.as_of = w.session"
        ).pl()
    finally:
        con.unregister("wanted")
    return rows


def _older_rows(
    con: duckdb.DuckDBPyConnection,
    keyed: pl.DataFrame,
    found: pl.DataFrame,
    sessions: pl.DataFrame,
    names: Sequence[str],
    max_age_sessions: int,
) -> pl.DataFrame:
    """Return the newest row before each session on which a ticker has none, if it is not too old."""
    missing = keyed.join(found.select("spine_row"), on="spine_row", how="anti").drop_nulls("session")
    missing = missing.select("spine_row", "ticker", asked="session", asked_number="session_number")
    first = missing["asked"].min()
    held = con.sql(
        "SELECT ticker, as_of AS session FROM feature_daily WHERE as_of BETWEEN $start AND $end ORDER BY session",
        params={"start": _back(sessions, first, max_age_sessions), "end": missing["asked"].max()},
    ).pl() if missing.height else pl.DataFrame(schema={"ticker": pl.String, "session": pl.Date})  # fmt: skip
    nearest = missing.sort("asked").join_asof(
        held.with_columns(held_on="session"), left_on="asked", right_on="session", by="ticker", strategy="backward",
        check_sortedness=False,
    )  # fmt: skip
    aged = nearest.join(sessions, left_on="held_on", right_on="session", how="inner", validate="m:1")
    recent = aged.filter(pl.col("asked_number") - pl.col("session_number") <= max_age_sessions)
    return _rows(con, recent.select("spine_row", "ticker", session="held_on"), names)


def _back(sessions: pl.DataFrame, day: object, n: int) -> object:
    """Return the session ``n`` before ``day``."""
    before = sessions.filter(pl.col("session") <= pl.lit(day))["session"]
    return before[max(0, len(before) - 1 - n)]


def _require_columns(con: duckdb.DuckDBPyConnection, names: Sequence[str]) -> None:
    known = [row[0] for row in con.execute("DESCRIBE feature_daily").fetchall()]
    if unknown := sorted(set(names) - set(known)):
        raise ConfigError(f"feature_daily has no columns {unknown}", fix=f"use some of {known[2:]}")
