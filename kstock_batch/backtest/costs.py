"""What trading costs: commission and slippage as told, and the securities transaction tax of the day.

Rates are those of the Enforcement Decree of the Securities Transaction Tax Act, article 5, with the special tax for
rural development of 0.15 points that KOSPI shares bear on top (Special Tax for Rural Development Act, article 5):
30 May 2019's cut, those of 2021, 2023, 2024 and 2025, and the return to 2023's rates in 2026. Only sales are taxed. A
rate counts by the day of settlement, two sessions after the trade: the cut "from 2025" was for trades from 27 December
2024 on, that of 3 June 2019 for trades from 30 May on.
"""

from bisect import bisect_right
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from datetime import date
from typing import Any

from kstock_batch.errors import ConfigError

SETTLEMENT = 2  # sessions after the trade
_SINCE = (
    *(date(1996, 1, 1), date(2019, 6, 3), date(2021, 1, 1), date(2023, 1, 1), date(2024, 1, 1), date(2025, 1, 1)),
    date(2026, 1, 1),
)
# Percent of the amount sold, for each of these days on; KOSPI's with the special tax.
_PERCENT: Mapping[str, Sequence[float]] = {
    "KOSPI": (0.30, 0.25, 0.23, 0.20, 0.18, 0.15, 0.20),
    "KOSDAQ": (0.30, 0.25, 0.23, 0.20, 0.18, 0.15, 0.20),
    "KONEX": (0.30, 0.10, 0.10, 0.10, 0.10, 0.10, 0.10),
}


@dataclass(frozen=True)
class Costs:
    """What is paid besides the price.

    Attributes
    ----------
    commission_bp, slippage_bp : of the amount, on each side, in hundredths of a percent
    is_taxed : whether sales bear the securities transaction tax
    capacity_pct : share of a stock's mean traded value of 20 sessions that one order may be
    delisted_worth : what is left of a stock that is delisted while held, as a share of its last close
    """

    commission_bp: float = 1.5
    slippage_bp: float = 10.0
    is_taxed: bool = True
    capacity_pct: float = 1.0
    delisted_worth: float = 0.0

    def checked(self) -> "Costs":
        """Return self, or say which value cannot be."""
        rules = {
            "commission_bp": (0 <= self.commission_bp < 1000, "0 … 1000"),
            "slippage_bp": (0 <= self.slippage_bp < 1000, "0 … 1000"),
            "capacity_pct": (0 < self.capacity_pct <= 100, "more than 0 and at most 100"),
            "delisted_worth": (0 <= self.delisted_worth <= 1, "0 … 1"),
        }
        for name, (holds, wanted) in rules.items():
            if not holds:
                raise ConfigError(f"{name} = {getattr(self, name):g} is out of range", fix=f"write {wanted}")
        return self

    @property
    def a_side(self) -> float:
        """Return commission and slippage as a share of the amount."""
        return (self.commission_bp + self.slippage_bp) / 1e4

    def as_json(self) -> dict[str, Any]:
        """Return JSON values."""
        return asdict(self)


FREE = Costs(commission_bp=0.0, slippage_bp=0.0, is_taxed=False)


def sales_tax(market: str, settled_on: date) -> float:
    """Return the tax on a sale as a share of the amount, by the day on which it is settled."""
    rates = _PERCENT.get(market, _PERCENT["KOSPI"])
    return rates[max(0, bisect_right(_SINCE, settled_on) - 1)] / 100
