"""The sample market as the frames of a panel folder: same files, columns and types as the real one."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import date

import numpy as np
import numpy.typing as npt
import polars as pl

from kstock_batch.ingest.sources.sample_market.bars import Bars
from kstock_batch.ingest.sources.sample_market.roster import Bools, Roster
from kstock_batch.ingest.sources.sample_market.statements import Statements
from kstock_batch.ingest.sources.sample_market.tape import Tape
from kstock_batch.ingest.sources.sample_market.ticks import Floats

_INDEX_START = {"KOSPI": 2_600.0, "KOSDAQ": 850.0, "KOSPI200": 350.0}


@dataclass(frozen=True)
class Panel:
    """Everything drawn, and the frames it makes; ``sessions`` has length T, arrays are (T, N)."""

    sessions: Sequence[date]
    roster: Roster
    tape: Tape
    bars: Bars
    statements: Statements

    @property
    def _live(self) -> Bools:
        return self.roster.live(len(self.sessions))

    def _rows(self, kept: Bools, **columns: npt.NDArray[np.generic]) -> pl.DataFrame:
        """Return date, ticker and ``columns``, one row per true cell of ``kept``, by ticker then date."""
        who, when = np.nonzero(kept.T)
        keys = {
            "date": pl.Series("date", self.sessions)[when],
            "ticker": self.roster.table["ticker"][who],
        }
        return pl.DataFrame(keys | {name: values[when, who] for name, values in columns.items()})

    def prices(self) -> pl.DataFrame:
        """Return bars split-adjusted as of the last session."""
        later = self.tape.split_exponent.sum(axis=0) - self.tape.split_exponent.cumsum(axis=0)  # splits still to come
        divisor, multiplier = 10.0 ** np.maximum(later, 0), 10.0 ** np.maximum(-later, 0)
        least = np.where(self.tape.traded, 1.0, 0.0)
        return self._rows(
            self._live,
            **{
                name: (raw / divisor * multiplier).astype(np.float32)
                for name, raw in (("open", self.bars.open), ("high", self.bars.high), ("low", self.bars.low),
                                  ("close", self.tape.close))
            },
            volume=np.maximum(np.round(self.bars.volume * divisor / multiplier), least).astype(np.int64),
            shares_outstanding=self.tape.shares.astype(np.int64),
        )  # fmt: skip

    def official_rows(self) -> pl.DataFrame:
        """Return the exchange's raw rows; like the real ones they show open = high = low = 0 where nothing traded."""
        base = np.maximum(self.tape.base, 1.0)
        after = np.arange(len(self.sessions))[:, None] >= self.roster.ints("global_from")
        is_global = after & (self.roster.ints("global_from") >= 0)
        rows = self._rows(
            self._live,
            **{name: np.where(self.tape.traded, getattr(self.bars, name), 0.0) for name in ("open", "high", "low")},
            close=self.tape.close,
            volume=self.bars.volume,
            amount=self.bars.amount,
            change_pct=np.round((self.tape.close / base - 1) * 100, 2) + 0.0,
            market_cap=self.tape.close * self.tape.shares,
            shares=self.tape.shares,
            is_global=is_global,
        )
        facts = self.roster.table.select("ticker", "name", "market")
        market = pl.when(pl.col("is_global")).then(pl.lit("KOSDAQ GLOBAL")).otherwise(pl.col("market"))
        return (
            rows.join(facts, on="ticker", how="left", validate="m:1")
            .with_columns(market=market)
            .select("date", "ticker", "name", "open", "high", "low", "close", "volume", "amount", "change_pct",
                    "market_cap", "shares", "market")
            .sort("date", "ticker")
        )  # fmt: skip

    def market_caps_weekly(self) -> pl.DataFrame:
        """Return whole-market exports of the last session of each week."""
        rows = self._rows(
            self._live & self._weekly()[:, None],
            market_cap=self.tape.close * self.tape.shares,
            shares_outstanding=self.tape.shares.astype(np.int64),
            close=self.tape.close,
            volume=self.bars.volume,
            trading_value=self.bars.amount,
        )
        return (
            rows.join(self.roster.table.select("ticker", "market"), on="ticker", how="left", validate="m:1")
            .select("date", "ticker", "market", "market_cap", "shares_outstanding", "close", "volume", "trading_value")
            .sort("date", "ticker")
        )

    def listings(self) -> pl.DataFrame:
        """Return who is listed; first and last seen are dates of weekly exports, null where the real panel's are."""
        exports = np.flatnonzero(self._weekly())
        days = pl.Series("first_seen", [*(self.sessions[int(t)] for t in exports), None])
        first = np.searchsorted(exports, self.roster.ints("first"))
        last = np.searchsorted(exports, self.roster.ints("last"), side="right") - 1
        kind, table = pl.col("kind"), self.roster.table
        common, konex = kind == "common", kind == "konex"
        gone = table["last"] < len(self.sessions) - 1
        return table.select(
            "ticker",
            "name",
            "market",
            sector=pl.when(common).then("factor_sector"),
            industry=pl.when(common).then(pl.col("factor_sector") + " 제조 및 서비스업"),
            is_spac=pl.when(~konex).then(kind == "spac"),
            is_pref=pl.when(~konex).then(kind == "pref"),
            first_seen=days[first],
            last_seen=pl.when(gone).then(days[np.where(gone, last, 0)]),
        )

    def flows(self) -> pl.DataFrame:
        """Return net purchases in shares for every listed name and session."""
        return self._rows(
            self._live,
            foreign_net=self.bars.foreign_net,
            institution_net=self.bars.institution_net,
            foreign_holding_pct=self.bars.foreign_holding_pct,
        )

    def market_investor_net(self) -> pl.DataFrame:
        """Return net purchases in won by investor type; over the four types they sum to zero."""
        parts = []
        for market in ("KOSDAQ", "KOSPI"):
            won = self.tape.close * (self.roster.table["market"] == market).to_numpy()
            foreign = np.round((self.bars.foreign_net * won).sum(axis=1))  # (T,)
            institution = np.round((self.bars.institution_net * won).sum(axis=1))
            other = np.round(-0.1 * institution)
            nets = {"개인": -(foreign + institution + other), "기관합계": institution, "기타법인": other,
                    "외국인합계": foreign}  # fmt: skip
            for investor, net in nets.items():
                keys = {"date": self.sessions, "market": market, "investor": investor}
                parts.append(pl.DataFrame(keys | {"net_value": net + 0.0}))
        return pl.concat(parts).sort("date", "market", "investor")

    def valuation_monthly(self) -> pl.DataFrame:
        """Return PER and PBR near the middle of each month, from the filings known then; null where not positive."""
        income = self.statements.known(self.statements.trailing_net_income(), self.sessions)
        equity = self.statements.known(self.statements.equity, self.sessions)
        cap = self.tape.close * self.tape.shares
        common = (self.roster.table["kind"] == "common").to_numpy()
        rows = self._rows(self._live & self._mid_month()[:, None] & common, per=_ratio(cap, income),
                          pbr=_ratio(cap, equity))  # fmt: skip
        return rows.select("ticker", "date", pl.col("per", "pbr").fill_nan(None))

    def indices(self) -> pl.DataFrame:
        """Return the Korean indices: value-weighted returns of the names listed before that session."""
        market, cap = self.roster.table["market"].to_numpy(), self.tape.shares[0] * self.tape.base[0]
        kospi = market == "KOSPI"
        large = kospi & (cap >= np.median(cap[kospi]))
        # On its first session a name enters at its close, as on the exchange: the offer price is not a base.
        seasoned = self._live & (np.arange(len(self.sessions))[:, None] > self.roster.ints("first"))
        parts = []
        for name, member in (("KOSDAQ", market == "KOSDAQ"), ("KOSPI", kospi), ("KOSPI200", large)):
            weight = self.tape.shares * (seasoned & member)
            before, after = (weight * self.tape.base).sum(axis=1), (weight * self.tape.close).sum(axis=1)
            growth = np.divide(after, before, out=np.ones_like(after), where=before > 0)
            level = np.round(_INDEX_START[name] * np.cumprod(growth), 2)
            parts.append(pl.DataFrame({"date": self.sessions, "series": name, "close": level}))
        return pl.concat(parts)

    def _weekly(self) -> Bools:
        """Return (T,): the last session of its ISO week, or of the market."""
        weeks = [day.isocalendar()[:2] for day in self.sessions]
        return np.array([now != later for now, later in zip(weeks, [*weeks[1:], None], strict=True)])

    def _mid_month(self) -> Bools:
        """Return (T,): the last session on or before the 15th of its month."""
        halves = [(day.year, day.month, day.day > 15) for day in self.sessions]
        ends = zip(halves, [*halves[1:], None], strict=True)
        return np.array([now != later and not now[2] for now, later in ends])


def _ratio(cap: Floats, amount: Floats) -> Floats:
    """Return ``cap / amount`` to two decimals, NaN where the amount is unknown or not positive."""
    positive = np.nan_to_num(amount, nan=0.0) > 0
    ratio = np.divide(cap, amount, out=np.full_like(cap, np.nan), where=positive)
    return np.asarray(np.round(ratio, 2), dtype=np.float64)
