"""Who is listed on the sample market, and what will happen to each of them.

Everything here is drawn before the first price and independently of every return, so that a late listing, a halt, a
split or a delisting tells nothing about the returns around it.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import polars as pl

from kstock_batch.ingest.sources.sample_market.ticks import Floats, round_down

Bools = npt.NDArray[np.bool_]
Ints = npt.NDArray[np.int64]

# Names of the exchange's public sector groups; the industry text is ours.
SECTORS = (
    "반도체", "헬스케어", "자동차", "금융", "지주사", "인터넷", "건설", "배터리",
    "음식료", "화장품", "게임", "기계", "철강", "에너지", "운송", "조선",
)  # fmt: skip
MIN_TICKERS = 12
_SPLIT_HALT = 3  # sessions without trade before a split takes effect


@dataclass(frozen=True)
class Roster:
    """Per ticker (N,) facts in ``table``, sorted by ticker, and per session (T, N) events."""

    table: pl.DataFrame
    halted: Bools
    split: Bools

    def floats(self, column: str) -> Floats:
        """Return one numeric column, shape (N,)."""
        return self.table[column].cast(pl.Float64).to_numpy()

    def ints(self, column: str) -> Ints:
        """Return one integer column, shape (N,)."""
        return self.table[column].cast(pl.Int64).to_numpy()

    def bools(self, column: str) -> Bools:
        """Return one boolean column, shape (N,)."""
        return self.table[column].to_numpy()

    def live(self, n_sessions: int) -> Bools:
        """Return (T, N): listed on that session."""
        at = np.arange(n_sessions)[:, None]
        return np.asarray((at >= self.ints("first")) & (at <= self.ints("last")))


def draw_roster(n_sessions: int, n_tickers: int, seed: int) -> Roster:
    """Return the listed names and their calendar of events."""
    rng = np.random.default_rng([seed, 1])
    table = _facts(rng, _names(rng, n_tickers), n_sessions)
    halted, split = _events(rng, table, n_sessions)
    return Roster(table, halted, split)


def _names(rng: np.random.Generator, n: int) -> pl.DataFrame:
    """Return ticker, kind, parent, sector, market and name; every kind occurs at least once."""
    n_spac, n_konex, n_pref = max(1, n // 60), 1 + (n >= 100), max(1, n // 40)
    n_common = n - n_spac - n_konex - n_pref
    n_sectors = int(np.clip(n_common // 4, 3, len(SECTORS)))
    # KRX gives no stock a code that begins with 08 or 8: no sample row can be taken for a real company's.
    plain = [f"{800_000 + 10 * int(k):06d}" for k in np.sort(rng.choice(9_000, n - n_pref - 2, replace=False))]
    codes = [*plain[: n_common - 1], "0801A0", "0802B0", *plain[n_common - 1 :]]
    sectors = [SECTORS[int(k)] for k in rng.integers(0, n_sectors, n_common)]
    sectors[: 2 * n_sectors] = [SECTORS[k % n_sectors] for k in range(2 * n_sectors)]
    parents = sorted(int(k) for k in rng.choice(n_common - 1, n_pref, replace=False))
    kinds = ["common"] * n_common + ["spac"] * n_spac + ["konex"] * n_konex + ["pref"] * n_pref
    own = codes[:n_common] + codes[n_common : n - n_pref]
    markets = ["KOSPI" if u < 0.35 else "KOSDAQ" for u in rng.random(n_common)]
    markets[:4] = ["KOSPI", "KOSDAQ", "KOSPI", "KOSDAQ"]
    names = [f"표본{sector}{i + 1:03d}" for i, sector in enumerate(sectors)]
    return pl.DataFrame(
        {
            "ticker": own + [codes[k][:5] + "5" for k in parents],
            "kind": kinds,
            "parent": own + [codes[k] for k in parents],
            "factor_sector": sectors + ["금융"] * n_spac + ["기계"] * n_konex + [sectors[k] for k in parents],
            "market": markets + ["KOSDAQ"] * n_spac + ["KONEX"] * n_konex + [markets[k] for k in parents],
            "name": names
            + [f"표본제{k + 1}호스팩" for k in range(n_spac)]
            + [f"표본코넥스{k + 1:02d}" for k in range(n_konex)]
            + [names[k] + "우" for k in parents],
        }
    )


def _facts(rng: np.random.Generator, names: pl.DataFrame, n_sessions: int) -> pl.DataFrame:
    """Add lifetime (session indices), offer price, shares, risk and liquidity, and sort by ticker."""
    n = names.height
    kind = names["kind"].to_numpy()
    spac, konex, pref = kind == "spac", kind == "konex", kind == "pref"
    kospi = names["market"].to_numpy() == "KOSPI"
    cap = np.where(kospi, 4.5e11, 1.2e11) * np.exp(np.where(kospi, 1.4, 0.9) * rng.standard_normal(n))
    cap = np.where(spac, 1.2e10, np.where(konex, 2e10, np.where(pref, 0.08 * cap, cap)))
    price = np.where(spac, 2_000.0, np.clip(9_000 * np.exp(1.1 * rng.standard_normal(n)), 900, 900_000))
    idio = np.exp(np.log(np.where(kospi, 0.0200, 0.0235)) + 0.26 * rng.standard_normal(n))
    first, last, splits = _lifetimes(rng, kind, n_sessions)
    kosdaq = np.flatnonzero(~kospi & (kind == "common"))
    global_from = np.full(n, -1)
    global_from[rng.choice(kosdaq, 1 + len(kosdaq) // 40, replace=False)] = n_sessions // 5
    return names.with_columns(
        pl.Series("first", first),
        pl.Series("last", last),
        pl.Series("splits", splits),
        pl.Series("offer", round_down(price)),
        pl.Series("shares", np.round(np.maximum(cap / price, 1e5), -2)),
        pl.Series("idio_vol", np.where(spac, 0.003, np.where(konex, 0.035, idio))),
        pl.Series("beta", np.where(spac, 0.05, np.clip(1 + 0.25 * rng.standard_normal(n), 0.3, 1.8))),
        pl.Series("sector_load", np.where(spac, 0.0, np.clip(1 + 0.25 * rng.standard_normal(n), 0.4, 1.6))),
        pl.Series("turnover", 0.006 * np.exp(0.9 * rng.standard_normal(n)) * np.where(spac | konex | pref, 0.2, 1.0)),
        pl.Series("no_trade", np.where(konex, 0.20, np.where(pref | spac, 0.03, 0.0))),
        pl.Series("has_filings", ~(spac | konex | pref) & (rng.random(n) > 0.04)),
        pl.Series("global_from", global_from),  # from this session on the exchange shows the segment KOSDAQ GLOBAL
    ).sort("ticker")


def _lifetimes(rng: np.random.Generator, kind: npt.NDArray[np.str_], n_sessions: int) -> tuple[Ints, Ints, Bools]:
    """Return first and last session index and the splitting names; the three groups of names are disjoint."""
    n = len(kind)
    first, last = np.zeros(n, dtype=np.int64), np.full(n, n_sessions - 1, dtype=np.int64)
    plain = np.flatnonzero(kind == "common")
    newest, plain = plain[-1:], rng.permutation(plain[:-1])  # the last common carries the new-style code: it is an IPO
    n_late, n_gone, n_split = max(1, n // 16), max(1, n // 25), max(1, n // 30)
    late = np.concatenate([newest, plain[: n_late - 1], np.flatnonzero(kind == "spac")[:1]])
    gone = plain[n_late : n_late + n_gone]
    first[late] = (n_sessions * rng.uniform(0.2, 0.7, len(late))).astype(np.int64)
    last[gone] = (n_sessions * rng.uniform(0.5, 0.9, len(gone))).astype(np.int64)
    splits = np.zeros(n, dtype=np.bool_)
    splits[plain[n_late + n_gone : n_late + n_gone + n_split]] = True
    return first, last, splits


def _events(rng: np.random.Generator, table: pl.DataFrame, n_sessions: int) -> tuple[Bools, Bools]:
    """Return halted and split, both (T, N)."""
    n = table.height
    halted = rng.random((n_sessions, n)) < table["no_trade"].to_numpy()
    split = np.zeros((n_sessions, n), dtype=np.bool_)
    for t, i in np.argwhere(rng.random((n_sessions, n)) < 0.0005):
        halted[t : t + (rng.integers(21, 61) if rng.random() < 0.2 else rng.integers(1, 4)), i] = True
    gone, splitting = np.flatnonzero(table["last"] < n_sessions - 1), np.flatnonzero(table["splits"])
    for i in gone[::2]:  # every second name is halted until it goes, the others are merged away while trading
        halted[max(0, table["last"][int(i)] - 24) : table["last"][int(i)] + 1, i] = True
    for i in splitting:
        at = int(n_sessions * rng.uniform(0.25, 0.8))
        split[at, i], halted[at, i], halted[max(0, at - _SPLIT_HALT) : at, i] = True, False, True
    steady = np.flatnonzero((table["kind"] == "common") & (table["first"] == 0) & ~table["splits"])
    start = n_sessions // 2
    halted[start : start + 22, steady[0]] = True
    first = table["first"].to_numpy()
    halted[first, np.arange(n)] = False
    return halted, split
