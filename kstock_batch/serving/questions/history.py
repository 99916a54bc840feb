"""What was said of one stock in the past, and what came true of it."""

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from datetime import date
from statistics import fmean
from typing import Any

import duckdb

from kstock_batch.store.queries import Query
from kstock_batch.wording import counted


@dataclass(frozen=True)
class PastPrediction:
    """One stored prediction.

    Attributes
    ----------
    rose : whether the stock rose 3 % within the five sessions; None = not known yet
    forward_return : the return that is judged, as a share; None = not known yet
    """

    as_of: date
    probability: float
    label: str
    rank: int
    rose: bool | None
    forward_return: float | None


@dataclass(frozen=True)
class History:
    """A stock's last predictions, oldest first."""

    past: tuple[PastPrediction, ...]

    @classmethod
    def of(cls, con: duckdb.DuckDBPyConnection, ticker: str, as_of: date, n: int) -> "History":
        """Return the last ``n`` predictions of ``ticker`` up to ``as_of``, with the outcomes that are known by now."""
        rows = Query.load("reports/prediction_history").rows(con, ticker=ticker, as_of=as_of, n=n)
        return cls(tuple(PastPrediction(**row) for row in rows))

    @property
    def judged(self) -> Sequence[PastPrediction]:
        """Return those whose outcome is known."""
        return [one for one in self.past if one.rose is not None]

    @property
    def sentence(self) -> str:
        """Return what came of them."""
        told = counted(len(self.past), "prediction")
        if not self.judged:
            return f"{told}, none judged yet"
        forecast = fmean(one.probability for one in self.judged)
        n_rose = sum(one.rose is True for one in self.judged)
        n = len(self.judged)
        return f"{told}, {n:,} judged: {n_rose:,} rose ({n_rose / n:.1%}), {forecast:.1%} were forecast"

    def rows(self) -> list[dict[str, Any]]:
        """Return JSON values, oldest first."""
        return [asdict(one) for one in self.past]
