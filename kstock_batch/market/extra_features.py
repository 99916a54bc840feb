"""Features beside the contract's 30: registered here, stored with them, read by whichever model names them.

To add one, put an entry into EXTRA_FEATURES and run `kstock-batch features`: it becomes a column of feature_daily,
filled for every session, and no other column is touched. docs/adding-a-feature.md walks through an example.
"""

import hashlib
from dataclasses import dataclass, field
from functools import reduce
from operator import add

import polars as pl

from kstock_batch.market.contract import AsInput, Scope

MAX_BARS = 253  # a bar and the year of bars before it


@dataclass(frozen=True)
class ExtraFeature:
    """One more column of feature_daily, float32.

    Attributes
    ----------
    name, definition, scope, as_input, null_until, version : as in the contract
    expression : of one ticker's bars, oldest first: columns open, high, low, close, volume, session. Prices are in the
        level of the ticker's first bar, so the value must be a ratio. None: sql/extra/<name>.sql computes it
    n_bars : how many bars the expression reads, its own included; it is null until there are as many
    """

    name: str
    definition: str
    scope: Scope = "ticker"
    as_input: AsInput = "value"
    null_until: int | None = None
    version: int = 1
    expression: pl.Expr | None = field(default=None, compare=False)
    n_bars: int = 1

    def __post_init__(self) -> None:
        """Refuse a name that is no column's, and more bars than a night has at hand."""
        if not (self.name.isidentifier() and self.name.islower()):
            raise ValueError(f"{self.name!r} is no column name: use lower case letters, digits and underscores")
        if not 1 <= self.n_bars <= MAX_BARS:
            raise ValueError(f"{self.name} reads {self.n_bars} bars, a night has 1 … {MAX_BARS} at hand")

    def digest(self, statement: str | None) -> str:
        """Return a digest of the definition; ``statement`` is the text of its SQL, if it has one."""
        facts = (self.name, self.version, self.definition, self.n_bars, str(self.expression), statement)
        return hashlib.sha256(repr(facts).encode()).hexdigest()[:12]


def window_mean(x: pl.Expr, n: int) -> pl.Expr:
    """Return the mean of the last ``n`` values, added up anew for each bar, newest first; null until there are ``n``.

    polars' rolling_mean carries a sum from bar to bar, so its last bits depend on where the frame begins, and its
    sum_horizontal adds many columns in whatever order its threads find them.
    """
    return reduce(add, (x.shift(back) for back in range(n))) / n


EXTRA_FEATURES: tuple[ExtraFeature, ...] = ()
