"""The nightly score: an audited session → windows → champion → blend → gates → one partition of ``prediction``."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import date

import duckdb
import numpy as np
import polars as pl

from kstock_batch.bot.results import score_bonus, signal_label
from kstock_batch.champion import Champion
from kstock_batch.errors import DataNotReady, ModelRefused
from kstock_batch.learners.base import Probabilities
from kstock_batch.learners.calibration import even_prior_signal
from kstock_batch.learners.explain import top3_json
from kstock_batch.learners.members import MEMBER_NAMES
from kstock_batch.registry import ModelVersion
from kstock_batch.serving.night.distribution import distribution
from kstock_batch.serving.night.gates import Gate, coverage, data_gates, require_passed, what_fails, wrong
from kstock_batch.serving.night.session_windows import SessionWindows
from kstock_batch.serving.night.yardsticks import keep_yardsticks
from kstock_batch.settings import Settings
from kstock_batch.store.audits import AuditResult, record_audits, require_clean, run_audits
from kstock_batch.store.ledger import Run
from kstock_batch.store.warehouse import Warehouse, replace_rows


@dataclass(frozen=True)
class Scored:
    """What a session's scoring came to; ``degraded_why`` tells the gates it failed, if that was accepted."""

    as_of: date
    n_scored: int
    n_bars: int
    audits: list[AuditResult]
    gates: list[Gate]
    degraded_why: str | None


def score_session(
    warehouse: Warehouse,
    settings: Settings,
    run: Run,
    as_of: date,
    champion: Champion,
    read_windows: Callable[[date], SessionWindows],
    *,
    accept_degraded: bool = False,
) -> Scored:
    """Make the ``as_of`` partition of ``prediction`` hold the champion's view of every scoreable ticker.

    A session that fails a gate leaves the store as it was, so that no later publication carries it by the way.
    """
    con = warehouse.con
    require_out_of_sample(champion.version, as_of)
    audits = _audit(warehouse, run, as_of)
    require_clean(wrong(audits))
    with run.stage(f"score {as_of}") as stage:
        gates = data_gates(con, as_of, settings, audits)
        windows = _windows(read_windows, as_of, gates)
        rows = predicted(champion, windows, as_of)
        gates += [coverage(con, as_of, rows["ticker"].to_list()), distribution(con, as_of, rows)]
        degraded_why = require_passed(gates, as_of, accept_degraded=accept_degraded)
        stage.n_rows = rows.height
    with run.stage(f"explain {as_of}") as stage:
        rows = explained(rows, champion, windows).with_columns(
            run_id=pl.lit(run.run_id),
            scored_at=pl.lit(run.started_at),
            degraded_why=pl.lit(degraded_why, dtype=pl.String),
        )
        stage.n_rows = rows.height
    with run.stage(f"commit {as_of}") as stage, warehouse.transaction():
        stage.n_rows = replace_rows(con, "prediction", rows, start=as_of, end=as_of)
        keep_yardsticks(con, champion.version, windows, as_of, run.run_id)
        _mark_scored(con, champion.version, run, as_of)
    n_bars = windows.bars.frame.filter(pl.col("as_of") == as_of).height
    return Scored(as_of, rows.height, n_bars, audits, gates, degraded_why)


def _audit(warehouse: Warehouse, run: Run, as_of: date) -> list[AuditResult]:
    """Return what the audits found, kept for the record whatever becomes of the night."""
    with run.stage(f"audit {as_of}") as stage:
        audits = run_audits(warehouse.con, as_of)
        stage.n_rows = sum(audit.n_offending for audit in audits)
        with warehouse.transaction():
            record_audits(warehouse.con, audits, run)
    return audits


def _windows(read: Callable[[date], SessionWindows], as_of: date, gates: list[Gate]) -> SessionWindows:
    """Return the session's windows; where there are none, what is missing may tell why."""
    try:
        return read(as_of)
    except DataNotReady as error:
        if why := what_fails(gates):
            raise DataNotReady(f"{error.what}; it fails {why}", fix=error.fix) from error
        raise


def predicted(champion: Champion, windows: SessionWindows, as_of: date) -> pl.DataFrame:
    """Return what ``prediction`` says of a session's windows, but for the reasons and who said it when."""
    members, blended = champion.predict(windows.inputs, windows.ends)
    return prediction_rows(windows.tickers, members, blended, champion, as_of)


def explained(rows: pl.DataFrame, champion: Champion, windows: SessionWindows) -> pl.DataFrame:
    """Return predictions with the columns that set each stock apart, as JSON text."""
    told = top3_json(champion.explain(windows.inputs, windows.ends), windows.inputs.tabular_names)
    return rows.with_columns(shap_top3=pl.Series(told, dtype=pl.String))


def prediction_rows(
    tickers: pl.DataFrame,
    members: Mapping[str, Probabilities],
    blended: Probabilities,
    champion: Champion,
    as_of: date,
) -> pl.DataFrame:
    """Return what ``prediction`` says of a session; a probability that is not one is refused, never published."""
    sound = np.all([(p >= 0) & (p <= 1) for p in (blended, *members.values())], axis=0)  # NaN is neither
    if bad := np.flatnonzero(~sound).tolist():
        names = tickers[bad[:5]]["ticker"].to_list()
        raise ModelRefused(
            f"{champion.version.version} gave {len(bad)} probabilities that are none, e.g. for {names}",
            fix="promote another version with `kstock-batch models promote`, or retrain",
        )
    base_rate = float(champion.version.manifest["base_rate"])
    signal = even_prior_signal(blended, base_rate)
    absent = pl.lit(None, dtype=pl.Float64)
    n = tickers.height
    return tickers.with_columns(
        as_of=pl.lit(as_of),
        probability=blended,
        signal=signal,
        label=pl.Series([signal_label(value) for value in signal], dtype=pl.String),
        score_bonus=pl.Series([score_bonus(value) for value in signal], dtype=pl.Int32),
        base_rate=pl.lit(base_rate),
        lift=blended / base_rate,
        **{name: pl.Series(members[name]) if name in members else absent for name in MEMBER_NAMES},
        model_version=pl.lit(champion.version.version),
        fingerprint=pl.lit(champion.version.manifest["fingerprint"]),
    ).with_columns(
        rank=pl.struct(-pl.col("probability"), "ticker").rank("ordinal").cast(pl.Int32),
        percentile=100 * (n - pl.col("probability").rank("min", descending=True)) / max(n - 1, 1),
    )


def require_out_of_sample(version: ModelVersion, as_of: date) -> None:
    """Raise if the model has seen outcomes of sessions up to ``as_of``: its probabilities would be too good."""
    if as_of < (known := date.fromisoformat(version.manifest["as_of"])):
        raise ModelRefused(
            f"model {version.version} was trained on outcomes known by {known}, so it must not score {as_of}",
            fix=f"score sessions from {known} on, or `kstock-batch retrain --as-of` an earlier session first",
        )


def _mark_scored(con: duckdb.DuckDBPyConnection, version: ModelVersion, run: Run, as_of: date) -> None:
    con.execute("DELETE FROM scored_session WHERE as_of = $as_of", {"as_of": as_of})
    con.execute(
        "INSERT INTO scored_session (as_of, model_version, fingerprint, run_id, definition_digest)"
        " VALUES ($as_of, $model_version, $fingerprint, $run_id,"
        " (SELECT definition_digest FROM feature_session WHERE as_of = $as_of))",
        {
            "as_of": as_of,
            "model_version": version.version,
            "fingerprint": version.manifest["fingerprint"],
            "run_id": run.run_id,
        },
    )
