"""A booster's trees as arrays, read from what LightGBM and XGBoost save of themselves.

Both libraries' rules become one: a row goes left where its value, a float32, is at most ``threshold``. LightGBM's
float64 threshold is rounded down to float32, and XGBoost's "less than" becomes "at most the float32 before": neither
moves a row.
"""

import json
import math
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import chain, pairwise
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from kstock_batch.errors import ModelRefused

if TYPE_CHECKING:  # one library must do without the other
    import xgboost as xgb

Numbers = NDArray[np.int64]
Flags = NDArray[np.bool_]

LIGHTGBM_ZERO = np.float32(1e-35)  # what LightGBM calls zero
IS_CATEGORY, DEFAULT_LEFT = 1, 2  # bits of LightGBM's decision_type; the two above them:
MISSING_SHIFT, MISSING_ZERO, MISSING_NAN = 2, 1, 2


@dataclass(frozen=True)
class Trees:
    """Trees whose M nodes stand in one row; children are numbers of nodes, -1 in a leaf.

    Attributes
    ----------
    n_columns : D, the columns of the rows the trees read
    base : float, what every row has before the first tree, in log-odds
    root : (T,) the first node of each tree
    left, right : (M,) the children
    feature : (M,) the column a node asks for
    threshold : (M,) float32; a row goes left where its value is at most this
    nan_left : (M,) whether a missing value goes left
    zero_missing : (M,) whether a zero goes where a missing value goes
    codes : (M,) the row of ``code_left`` a node asks, -1 where its feature is a quantity
    code_left : (nodes that ask for a category, codes + 1) whether a category goes left; last column: codes unheard of
    cover : (M,) float64, how much of the training data came by
    value : (M,) float64, what a leaf adds, in log-odds
    """

    n_columns: int
    base: float
    root: Numbers
    left: Numbers
    right: Numbers
    feature: Numbers
    threshold: NDArray[np.float32]
    nan_left: Flags
    zero_missing: Flags
    codes: Numbers
    code_left: Flags
    cover: NDArray[np.float64]
    value: NDArray[np.float64]


def lightgbm_trees(text: str) -> Trees:
    """Return the trees of a booster's ``text``, because its ``dump_model`` takes ten times as long."""
    head, *blocks = text.partition("\nend of trees")[0].split("\nTree=")
    told = _fields(head)
    trees = [_fields(block) for block in blocks]
    if told["num_tree_per_iteration"] != "1" or any(tree.get("is_linear", "0") != "0" for tree in trees):
        raise _unlike("LightGBM", "one tree of constant leaves per round")
    if not told.get("objective", "").startswith("binary sigmoid:1") or "\naverage_output" in head:
        raise _unlike("LightGBM", "boosted log-odds, objective=binary sigmoid:1")
    return _from_text(trees, int(told["max_feature_idx"]) + 1)


def xgboost_trees(booster: "xgb.Booster") -> Trees:
    """Return the trees of ``booster``, as its JSON tells them."""
    learner = json.loads(bytes(booster.save_raw("json")))["learner"]
    told, grown = learner["learner_model_param"], learner["gradient_booster"]
    if grown["name"] != "gbtree" or learner["objective"]["name"] != "binary:logistic" or told["num_target"] != "1":
        raise _unlike("XGBoost", "boosted log-odds, booster=gbtree and objective=binary:logistic")
    (chance,) = np.ravel(json.loads(told["base_score"]))  # XGBoost 3.0 says a number, later ones a list of one
    base = math.log(chance) - math.log1p(-chance)
    return _from_json(grown["model"]["trees"], int(told["num_feature"]), base)


@dataclass(frozen=True)
class _Places:
    """Where LightGBM's nodes stand: its text numbers the inner nodes and the leaves of a tree apart."""

    root: Numbers  # (T,)
    n_leaves: Numbers  # (T,)

    @classmethod
    def of(cls, trees: Sequence[dict[str, str]]) -> "_Places":
        n_leaves = np.array([int(tree["num_leaves"]) for tree in trees], dtype=np.int64)
        return cls(np.cumsum(2 * n_leaves - 1) - (2 * n_leaves - 1), n_leaves)

    def children(self, number: Numbers) -> Numbers:
        """Return (M,) where the children of all inner nodes stand, a leaf being -1 - its number; -1 in leaves."""
        root = np.repeat(self.root, self.n_leaves - 1)
        first_leaf = root + np.repeat(self.n_leaves, self.n_leaves - 1) - 1
        return self.spread(np.where(number >= 0, root + number, first_leaf - 1 - number), -1)

    def spread(self, at_inner: NDArray[Any], at_leaf: Any) -> NDArray[Any]:
        """Return (M,) what is known of the inner nodes and of the leaves, each in their places."""
        out = np.empty(int((2 * self.n_leaves - 1).sum()), dtype=at_inner.dtype)
        out[np.repeat(self.root, self.n_leaves - 1) + _count_up(self.n_leaves - 1)] = at_inner
        out[np.repeat(self.root + self.n_leaves - 1, self.n_leaves) + _count_up(self.n_leaves)] = at_leaf
        return out


def _from_text(trees: Sequence[dict[str, str]], n_columns: int) -> Trees:
    """Return the trees of LightGBM's text."""
    places = _Places.of(trees)
    rule, threshold = _joined(trees, "decision_type").astype(np.int64), _joined(trees, "threshold")
    missing, is_category = rule >> MISSING_SHIFT & MISSING_NAN + MISSING_ZERO, (rule & IS_CATEGORY) > 0
    # without a rule for what is missing LightGBM takes NaN for 0; a missing category is never among those that go left
    nan_left = np.where(missing > 0, (rule & DEFAULT_LEFT) > 0, threshold >= 0) & ~is_category
    counts = [tree.get("leaf_count") or "1" for tree in trees]  # a tree of a single leaf counts nothing
    return Trees(
        n_columns=n_columns,
        base=0.0,  # boost_from_average is part of the first tree's leaves
        root=places.root,
        left=places.children(_joined(trees, "left_child").astype(np.int64)),
        right=places.children(_joined(trees, "right_child").astype(np.int64)),
        feature=places.spread(_joined(trees, "split_feature").astype(np.int64), 0),
        threshold=places.spread(_at_most(threshold), 0),
        nan_left=places.spread(nan_left, False),
        zero_missing=places.spread((missing == MISSING_ZERO) & ~is_category, False),
        codes=places.spread(np.where(is_category, np.cumsum(is_category) - 1, -1), -1),
        code_left=_table([codes for tree in trees for codes in _bitsets(tree)], listed_left=True),
        cover=places.spread(_joined(trees, "internal_count"), _numbers(" ".join(counts))),
        value=places.spread(np.zeros(len(rule)), _joined(trees, "leaf_value")),
    )


def _from_json(trees: Sequence[dict[str, Any]], n_columns: int, base: float) -> Trees:
    """Return the trees of XGBoost's JSON: nodes are numbered within a tree, and a leaf's value stands as threshold."""
    sizes = np.array([len(tree["left_children"]) for tree in trees], dtype=np.int64)
    root = np.cumsum(sizes) - sizes

    def joined(name: str, kind: Any) -> NDArray[Any]:
        return np.fromiter(chain.from_iterable(tree[name] for tree in trees), dtype=kind)

    left, right = joined("left_children", np.int64), joined("right_children", np.int64)
    first, is_leaf = np.repeat(root, sizes), left < 0
    condition = joined("split_conditions", np.float32)
    codes = np.full(len(left), -1)
    asking = root[np.repeat(np.arange(len(trees)), [len(tree["categories_nodes"]) for tree in trees])]
    codes[asking + joined("categories_nodes", np.int64)] = np.arange(len(asking))
    return Trees(
        n_columns=n_columns,
        base=base,
        root=root,
        left=np.where(is_leaf, -1, first + left),
        right=np.where(is_leaf, -1, first + right),
        feature=joined("split_indices", np.int64),
        threshold=np.nextafter(condition, np.float32(-np.inf)),
        nan_left=joined("default_left", np.bool_),
        zero_missing=np.zeros(len(left), dtype=np.bool_),
        codes=codes,
        code_left=_table([found for tree in trees for found in _segments(tree)], listed_left=False),
        cover=joined("sum_hessian", np.float64),
        value=np.where(is_leaf, condition, 0.0).astype(np.float64),
    )


def _fields(block: str) -> dict[str, str]:
    """Return the ``name=value`` lines of a block of LightGBM's text."""
    return {name: value for name, equals, value in (line.partition("=") for line in block.split("\n")) if equals}


def _numbers(text: str) -> NDArray[np.float64]:
    """Return the numbers of ``text``; numpy's own reader is five times as fast as a list of floats."""
    return np.fromstring(text, dtype=np.float64, sep=" ") if text.strip() else np.empty(0)


def _joined(trees: Sequence[dict[str, str]], name: str) -> NDArray[np.float64]:
    """Return one field of all trees in a row."""
    return _numbers(" ".join(tree[name] for tree in trees))


def _count_up(sizes: Numbers) -> Numbers:
    """Return 0, 1, …, size - 1 for each of ``sizes`` in a row."""
    return np.arange(sizes.sum()) - np.repeat(np.cumsum(sizes) - sizes, sizes)


def _at_most(threshold: NDArray[np.float64]) -> NDArray[np.float32]:
    """Return float32 thresholds that the same float32 values are at most: the largest ones not above."""
    with np.errstate(over="ignore"):
        near = threshold.astype(np.float32)
    below = np.where(near > threshold, np.nextafter(near, np.float32(-np.inf)), near)
    # LightGBM reads what is nearly 0 as 0: all of it goes the way of 0
    zero = np.where(threshold < 0, np.nextafter(-LIGHTGBM_ZERO, np.float32(-np.inf)), LIGHTGBM_ZERO)
    return np.where(np.abs(threshold) <= LIGHTGBM_ZERO, zero, below)


def _bitsets(tree: dict[str, str]) -> list[list[int]]:
    """Return the categories that go left at each node of LightGBM's tree that asks for one, in order of nodes."""
    if tree.get("num_cat", "0") == "0":
        return []
    bounds, words = (list(map(int, tree[name].split())) for name in ("cat_boundaries", "cat_threshold"))
    rule = _numbers(tree["decision_type"]).astype(np.int64)
    number = _numbers(tree["threshold"])[(rule & IS_CATEGORY) > 0].astype(np.int64)
    sets = [words[start:stop] for start, stop in pairwise(bounds)]
    codes = [[code for code in range(32 * len(bits)) if bits[code // 32] >> code % 32 & 1] for bits in sets]
    return [codes[at] for at in number]


def _segments(tree: dict[str, Any]) -> list[list[int]]:
    """Return the categories that go right at each node of XGBoost's tree that asks for one."""
    spans = zip(tree["categories_segments"], tree["categories_sizes"], strict=True)
    return [tree["categories"][start : start + size] for start, size in spans]


def _table(listed: Sequence[Sequence[int]], *, listed_left: bool) -> Flags:
    """Return whether each code goes left, (nodes, codes + 1): the listed codes go one way, all others the other."""
    n_codes = 1 + max(chain.from_iterable(listed), default=-1)
    table = np.full((len(listed), n_codes + 1), not listed_left)
    rows = np.repeat(np.arange(len(listed)), [len(codes) for codes in listed])
    table[rows, list(chain.from_iterable(listed))] = listed_left
    return table


def _unlike(library: str, wanted: str) -> ModelRefused:
    """Return the refusal of a model whose contributions would not be what we say they are."""
    return ModelRefused(
        f"a {library} model without contributions: it is not {wanted}", fix="retrain with `kstock-batch retrain`"
    )
