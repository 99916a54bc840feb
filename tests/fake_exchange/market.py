"""One small market that every source of the fake exchange tells of: some sixty stocks over sixty sessions of 2026.

It holds what real ones hold: a split behind a halt, a delisting, a new listing that more than doubles on its first
day, stocks without earnings, preferred shares, a SPAC, a code with letters, prices on the tick grid within the limits.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, fields, replace
from datetime import date, timedelta
from functools import cache

import numpy as np
import polars as pl

from kstock_batch.ingest.sources.sample_market.ticks import daily_limits, round_down, round_fairly, round_up
from kstock_batch.market.sessions import krx_sessions

FIRST, LAST = date(2026, 5, 4), date(2026, 7, 31)  # both closures that the calendar missed lie in between
LIMIT = 30.0
FIRST_DAY_LIMITS = (60.0, 400.0)  # percent of the offering price

SPLIT, HALTED, DELISTED, NEW, SPAC, LETTERED = "005930", "000660", "001234", "475150", "450140", "0088A0"
"""Stocks to which something happens, and two whose names or codes are special."""
SPLIT_AT, HALT_AT, DELISTED_AT, NEW_AT = 30, 20, 40, 45  # counted in sessions
SPLIT_BY, HALT_LASTS = 5, 3
PREFERRED = ("005935", "000665")
_SECTORS = ("반도체", "금융", "헬스케어", "내수", "소재", "기계")
_INVESTORS = {"기관합계": "institution_net", "기타법인": "other_net", "개인": "retail_net", "외국인합계": "foreign_net"}
_SYLLABLES = ("가", "나", "다", "라", "마", "바", "사", "아", "자", "차")
_INDEX_LEVELS = {"KOSPI": 2_900.0, "KOSDAQ": 860.0, "KOSPI200": 390.0}


@dataclass(frozen=True)
class Market:
    """What happened, in full; a source of the fake exchange tells the part of it that it knows.

    Attributes
    ----------
    sessions : the days on which the exchange was open, oldest first
    listing : ticker isin name market sector industry board is_spac is_preferred par first_seen last_seen corp_code
    price : session ticker name market base open high low close volume traded_value change_pct market_cap shares;
        a halted stock is printed with its last close and zeros, as the exchange does
    flow : session ticker market foreign_net institution_net retail_net other_net (shares) foreign_shares
        foreign_holding_pct; stocks that traded only
    market_flow : session market investor net_value (won)
    valuation : session ticker market eps per bps pbr; null = the exchange prints "-"
    short_balance : session ticker market short_balance short_value short_balance_pct shares market_cap
    macro : series event_date close; KOSPI KOSDAQ KOSPI200, VIX SP500 (days of New York), USDKRW
    designation : ticker name market kind designated_on reason
    financial : ticker corp_code period_end received_on revenue_ytd op_income_ytd net_income_ytd equity liabilities
        assets
    """

    sessions: tuple[date, ...]
    listing: pl.DataFrame
    price: pl.DataFrame
    flow: pl.DataFrame
    market_flow: pl.DataFrame
    valuation: pl.DataFrame
    short_balance: pl.DataFrame
    macro: pl.DataFrame
    designation: pl.DataFrame
    financial: pl.DataFrame

    def of(self, name: str, session: date, market: str | None = None) -> pl.DataFrame:
        """Return the rows of the frame ``name`` for one session, of one market or of all."""
        rows: pl.DataFrame = getattr(self, name)
        mine = rows.filter(pl.col("session") == session)
        return mine if market is None else mine.filter(pl.col("market") == market)

    def listed(self, day: date) -> pl.DataFrame:
        """Return the listing as it stands on ``day``: the delisted are gone, the new not there before their day."""
        here = (pl.col("first_seen") <= day) & (pl.col("last_seen").is_null() | (pl.col("last_seen") >= day))
        return self.listing.filter(here).with_columns(pl.lit(None, pl.Date).alias("last_seen"))

    def until(self, day: date) -> Market:
        """Return the market as it is known on the evening of ``day``: short balances come two sessions later."""
        past = tuple(session for session in self.sessions if session <= day)
        balances = past[-3] if len(past) > 2 else date.min
        abroad = ~pl.col("series").is_in(list(_INDEX_LEVELS))
        known = {
            "short_balance": pl.col("session") <= balances,
            "macro": pl.when(abroad).then(pl.col("event_date") < day).otherwise(pl.col("event_date") <= day),
            "listing": pl.col("first_seen") <= day,
            "designation": pl.col("designated_on") <= day,
            "financial": pl.col("received_on") <= day,
        }
        frames = {f.name: getattr(self, f.name) for f in fields(self) if f.name != "sessions"}
        cut = {name: frame.filter(known.get(name, pl.col("session") <= day)) for name, frame in frames.items()}
        gone = pl.when(pl.col("last_seen") < day).then(pl.col("last_seen")).alias("last_seen")
        return replace(self, sessions=past, **{**cut, "listing": cut["listing"].with_columns(gone)})


@cache
def small_market(first: date = FIRST, last: date = LAST, n_tickers: int = 60, seed: int = 7) -> Market:
    """Return the market between two days; the same arguments give the same market."""
    rng = np.random.default_rng(seed)
    sessions = tuple(krx_sessions(first, last))
    listing = _listing(sessions, n_tickers)
    price = _prices(sessions, listing, rng)
    flow = _flows(price, rng)
    return Market(
        sessions=sessions,
        listing=listing,
        price=price,
        flow=flow,
        market_flow=_market_flows(price, flow),
        valuation=_valuations(price, rng),
        short_balance=_short_balances(price, rng),
        macro=_macro(sessions, price, rng),
        designation=_designations(sessions, listing),
        financial=_financials(listing, rng),
    )


def _listing(sessions: Sequence[date], n_tickers: int) -> pl.DataFrame:
    special = (SPLIT, HALTED, DELISTED, *PREFERRED, NEW, SPAC, LETTERED)
    codes = [*special, *(f"{10_000 + 370 * n:05d}0" for n in range(n_tickers - len(special)))]
    names = {
        SPLIT: "표본전자",
        HALTED: "표본하이닉",
        DELISTED: "사라진산업",
        SPAC: "미래표본스팩5호",
        LETTERED: "글자바이오",
    }
    names |= {"005935": "표본전자우", "000665": "표본하이닉우", NEW: "새로온로봇"}
    at = min(NEW_AT, len(sessions) - 1)
    return pl.DataFrame(
        [
            {
                "ticker": code,
                "isin": f"KR7{code}00{n % 10}",
                "name": names.get(code, f"{_SYLLABLES[n // 10 % 10]}{_SYLLABLES[n % 10]}산업"),
                "market": "KOSDAQ" if code in (NEW, SPAC, LETTERED) or n >= len(special) + n_tickers // 2 else "KOSPI",
                "sector": None if code == SPAC else _SECTORS[n % len(_SECTORS)],
                "industry": None if code == SPAC else f"{_SECTORS[n % len(_SECTORS)]} 제조업",
                "is_spac": code == SPAC,
                "is_preferred": code in PREFERRED,
                "par": (100, 500, 5_000)[n % 3],
                "first_seen": sessions[at] if code == NEW else date(1990 + n % 30, 3, 2 + n % 20),
                "last_seen": sessions[DELISTED_AT - 1] if code == DELISTED and len(sessions) > DELISTED_AT else None,
                "corp_code": f"{126_000 + n:08d}",
            }
            for n, code in enumerate(codes)
        ],
        schema_overrides={"last_seen": pl.Date},
    ).with_columns(
        pl.when(pl.col("is_spac")).then(pl.lit("SPAC(소속부없음)")).when(pl.col("market") == "KOSDAQ")
        .then(pl.lit("중견기업부")).otherwise(pl.lit("")).alias("board"),
    ).sort("ticker")  # fmt: skip


def _prices(sessions: Sequence[date], listing: pl.DataFrame, rng: np.random.Generator) -> pl.DataFrame:
    """Walk each stock from its base price to a close on the grid within the day's limits."""
    codes = listing["ticker"].to_numpy()
    close = round_down(np.exp(rng.uniform(np.log(1_500), np.log(400_000), len(codes))))
    close[codes == SPLIT] = 312_000.0
    shares = np.round(np.exp(rng.uniform(np.log(3e6), np.log(4e8), len(codes))))
    days = []
    for n, session in enumerate(sessions):
        is_split, is_new = (codes == SPLIT) & (n == SPLIT_AT), (codes == NEW) & (n == NEW_AT)
        base = np.where(is_split, round_down(close / SPLIT_BY), close)
        shares = np.where(is_split, shares * SPLIT_BY, shares)
        halted = ((codes == HALTED) & (n >= HALT_AT) & (n < HALT_AT + HALT_LASTS)) | (
            (codes == SPLIT) & (n >= SPLIT_AT - HALT_LASTS) & (n < SPLIT_AT)
        )
        low_limit, high_limit = daily_limits(base, np.full(len(base), LIMIT))
        low_limit = np.where(is_new, base * FIRST_DAY_LIMITS[0] / 100, low_limit)
        high_limit = np.where(is_new, base * FIRST_DAY_LIMITS[1] / 100, high_limit)
        u = rng.uniform(size=(4, len(codes)))
        drawn = base * np.exp(np.where(is_new, 0.8, 0.025 * rng.standard_t(4, len(codes))))
        close = np.where(halted, base, np.clip(round_fairly(drawn, u[0]), low_limit, high_limit))
        opened = np.clip(round_fairly(base + (close - base) * u[1] * 0.6, u[2]), low_limit, high_limit)
        high = np.minimum(round_up(np.maximum(opened, close) * (1 + 0.01 * u[3])), high_limit)
        low = np.maximum(round_down(np.minimum(opened, close) * (1 - 0.01 * u[2])), low_limit)
        volume = np.where(halted, 0, np.floor(shares * rng.uniform(0.0005, 0.02, len(codes))) + 1)
        won = {"base": base, "open": opened, "high": high, "low": low}
        won |= {name: np.where(halted, 0, won[name]) for name in ("open", "high", "low")}
        won |= {"close": close, "volume": volume, "traded_value": np.floor(volume * (high + low + close) / 3)}
        won |= {"market_cap": close * shares, "shares": shares}
        day = pl.DataFrame({"ticker": codes} | {name: value.astype(np.int64) for name, value in won.items()})
        days.append(day.with_columns(pl.lit(session).alias("session")))
    facts = listing.select("ticker", "name", "market", "first_seen", "last_seen")
    listed = (pl.col("session") >= pl.col("first_seen")) & (
        pl.col("last_seen").is_null() | (pl.col("session") <= pl.col("last_seen"))
    )
    change = ((pl.col("close") / pl.col("base") - 1) * 100).round(2).alias("change_pct")
    columns = ("session", "ticker", "name", "market", "base", "open", "high", "low", "close", "volume", "traded_value")
    rows = pl.concat(days).join(facts, on="ticker", how="left", validate="m:1").filter(listed)
    return rows.with_columns(change).select(*columns, "change_pct", "market_cap", "shares").sort("session", "ticker")


def _flows(price: pl.DataFrame, rng: np.random.Generator) -> pl.DataFrame:
    """Split what each stock traded among four groups whose purchases sum to nothing."""
    rows = price.filter(pl.col("volume") > 0)
    n = rows.height
    foreign = np.floor(rng.uniform(-0.3, 0.3, n) * rows["volume"].to_numpy()).astype(np.int64)
    institution = np.floor(rng.uniform(-0.2, 0.2, n) * rows["volume"].to_numpy()).astype(np.int64)
    institution[rng.uniform(size=n) < 0.1] = 0  # no institution touched it: it is on no list of theirs
    other = np.floor(rng.uniform(-0.02, 0.02, n) * rows["volume"].to_numpy()).astype(np.int64)
    held = np.floor(rng.uniform(0.01, 0.6, n) * rows["shares"].to_numpy()).astype(np.int64)
    return rows.select(
        "session", "ticker", "market",
        foreign_net=foreign, institution_net=institution, retail_net=-(foreign + institution + other), other_net=other,
        foreign_shares=held, foreign_holding_pct=(pl.Series(held) / pl.col("shares") * 100).round(2),
    )  # fmt: skip


def _market_flows(price: pl.DataFrame, flow: pl.DataFrame) -> pl.DataFrame:
    bought = flow.join(price.select("session", "ticker", "close"), on=["session", "ticker"], how="left", validate="1:1")
    return pl.concat(
        bought.group_by("session", "market").agg(net_value=(pl.col(column) * pl.col("close")).sum())
        .select("session", "market", pl.lit(investor).alias("investor"), "net_value")
        for investor, column in _INVESTORS.items()
    ).sort("session", "market", "investor")  # fmt: skip


def _valuations(price: pl.DataFrame, rng: np.random.Generator) -> pl.DataFrame:
    """Give each common share earnings and a book value for the whole time; every fourth one has no earnings."""
    common = price.filter(~pl.col("ticker").is_in([*PREFERRED, SPAC]))
    last = common.group_by("ticker").agg(pl.col("close").last()).sort("ticker")
    n = last.height
    eps = np.floor(last["close"].to_numpy() / rng.uniform(5, 30, n))
    bps = np.floor(last["close"].to_numpy() / rng.uniform(0.4, 4, n))
    own = last.select("ticker", eps=pl.Series(eps).cast(pl.Int64), bps=pl.Series(bps).cast(pl.Int64)).with_columns(
        pl.when(pl.int_range(pl.len()) % 4 != 0).then("eps").alias("eps")
    )
    rows = common.join(own, on="ticker", how="left", validate="m:1").with_columns(
        per=(pl.col("close") / pl.col("eps")).round(2), pbr=(pl.col("close") / pl.col("bps")).round(2)
    )
    return rows.select("session", "ticker", "market", "eps", "per", "bps", "pbr")


def _short_balances(price: pl.DataFrame, rng: np.random.Generator) -> pl.DataFrame:
    held = np.floor(rng.uniform(0, 0.03, price.height) * price["shares"].to_numpy()).astype(np.int64)
    return price.select(
        "session", "ticker", "market", short_balance=held, short_value=pl.Series(held) * pl.col("close"),
        short_balance_pct=(pl.Series(held) / pl.col("shares") * 100).round(2), shares="shares", market_cap="market_cap",
    )  # fmt: skip


def _macro(sessions: Sequence[date], price: pl.DataFrame, rng: np.random.Generator) -> pl.DataFrame:
    """Index closes move with the market value; what is quoted abroad has its own weekdays."""
    rows = []
    for series, level in _INDEX_LEVELS.items():
        mine = price.filter(pl.col("market") == series.removesuffix("200"))
        moved = mine.group_by("session").agg(
            (pl.col("change_pct") * pl.col("market_cap")).sum() / pl.col("market_cap").sum()
        )
        for session, change in moved.sort("session").iter_rows():
            level = round(level * (1 + change / 100), 2)
            rows.append({"series": series, "event_date": session, "close": level})
    first, last = sessions[0], sessions[-1]
    weekdays = [day for n in range((last - first).days + 1) if (day := first + timedelta(days=n)).weekday() < 5]
    for series, level, sigma in (("VIX", 16.0, 0.05), ("SP500", 6_900.0, 0.01), ("USDKRW", 1_385.0, 0.004)):
        for day in weekdays:
            level = round(level * float(np.exp(sigma * rng.standard_normal())), 2)
            rows.append({"series": series, "event_date": day, "close": level})
    return pl.DataFrame(rows).sort("series", "event_date")


def _designations(sessions: Sequence[date], listing: pl.DataFrame) -> pl.DataFrame:
    doomed = listing.filter(pl.col("ticker") == DELISTED).select("ticker", "name", "market")
    on = sessions[min(5, len(sessions) - 1)]
    return doomed.select(
        "ticker", "name", "market", kind=pl.lit("administrative"), designated_on=pl.lit(on),
        reason=pl.lit("감사의견 거절"),
    )  # fmt: skip


def _financials(listing: pl.DataFrame, rng: np.random.Generator) -> pl.DataFrame:
    """Two filings of each common share: the year 2025 and the first quarter of 2026, received before and within."""
    common = listing.filter(~pl.col("is_preferred") & ~pl.col("is_spac"))
    rows = []
    for ticker, corp_code in common.select("ticker", "corp_code").iter_rows():
        revenue, equity = (round(float(x)) * 1_000_000 for x in np.exp(rng.uniform(np.log(2e4), np.log(2e7), 2)))
        for end, received, share in (
            (date(2025, 12, 31), date(2026, 3, 20), 100),
            (date(2026, 3, 31), date(2026, 5, 15), 25),
        ):
            assets = 2 * equity
            rows.append(
                {"ticker": ticker, "corp_code": corp_code, "period_end": end, "received_on": received}
                | {"revenue_ytd": revenue * share // 100, "op_income_ytd": revenue * share // 1_000}
                | {"net_income_ytd": revenue * share // 1_500, "equity": equity, "liabilities": assets - equity}
                | {"assets": assets}
            )
    return pl.DataFrame(rows)
