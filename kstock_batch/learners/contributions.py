"""Exact contributions (SHAP values, path-dependent) of each column to what a booster's trees say of a row.

What one leaf adds is a game of its path's K distinct features: a row meets a feature's conditions (1) or does not (0),
and while the feature is unknown the row counts as ``fraction``, the part of the training data that meets them. Mixing
both by t, the row reaches the leaf to the degree

    P(t) = value · Π_k (t · met_k + (1 - t) · fraction_k),

and the Shapley value of feature j is the integral over t from 0 to 1 of (met_j - fraction_j) · P(t) / its own factor.
That is a polynomial of degree K - 1, which Gauss-Legendre quadrature of ⌈K / 2⌉ nodes integrates exactly. Of a feature
that is not met the quotient is -1 / (1 - t), whatever its fraction: nothing is ever divided by 0.

Two rows with the same answers get the same contributions, so each group of leaves is computed once per state and
looked up per row.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from itertools import pairwise

import numpy as np
from numpy.typing import NDArray

from kstock_batch.features.windows import FloatRows
from kstock_batch.learners.path_groups import Groups, Paths, group, walk
from kstock_batch.learners.tree_paths import LIGHTGBM_ZERO, Flags, Numbers, Trees

Floats = NDArray[np.float64]
Bits = NDArray[np.uint8]  # of eight rows in a byte

MAX_TABLE_BITS = 10  # a leaf of more distinct features is computed per row: a night fills few of its states
TABLE_SIZE = 1 << 16  # numbers computed at a time: what stays in the processor's cache
BLOCK_ROWS = 8192  # rows answered at a time: bounds the memory of a backfill


@dataclass(frozen=True)
class Contributions:
    """What each column adds, (N, D) float64, and what every row has without them: together the margin, in log-odds."""

    by_column: Floats
    bias: float


def contributions(trees: Trees, rows: FloatRows) -> Contributions:
    """Return the contributions of ``rows`` (N, D) float32, NaN = missing: those that either library itself computes."""
    if rows.dtype != np.float32 or rows.ndim != 2 or rows.shape[1] != trees.n_columns:
        raise ValueError(f"rows are {rows.dtype} {rows.shape}, not float32 (N, {trees.n_columns})")
    paths = walk(trees)
    groups = group(trees, paths)
    out = np.zeros((len(rows), trees.n_columns))
    for start in range(0, len(rows), BLOCK_ROWS):
        block = rows[start : start + BLOCK_ROWS]
        out[start : start + BLOCK_ROWS] = _of_block(trees, paths, groups, block)
    reached = paths.fraction[paths.leaf].prod(axis=1)
    return Contributions(out, trees.base + float(trees.value[paths.leaf] @ reached))


def _of_block(trees: Trees, paths: Paths, groups: list[Groups], rows: FloatRows) -> Floats:
    """Return contributions (N, D)."""
    row_of, answers = _answers(trees, paths, rows)
    out = np.zeros((trees.n_columns, len(rows)))
    for alike in groups:
        bits = answers[row_of[alike.bits]]  # (G, b, N / 8)
        if alike.bits.shape[1] > MAX_TABLE_BITS:
            _add_by_row(out, alike, bits)
            continue
        for chunk, table in _tables(alike):
            state = _states(bits[chunk], len(rows))
            for columns, values, at in zip(alike.columns[chunk], table, state, strict=True):
                out[columns] += values.take(at, axis=1)
    return out.T


def _answers(trees: Trees, paths: Paths, rows: FloatRows) -> tuple[Numbers, Bits]:
    """Return the row of each node's answers, (M,), and the answers (Q, N / 8).

    An answer is whether a row goes to the node from the node's parent. Above the groups it is no unless the path's
    earlier conditions on the same feature are met as well.
    """
    is_above = paths.first == np.arange(len(paths.first))
    is_left = np.zeros(len(is_above), dtype=np.bool_)
    is_left[np.concatenate([trees.root[:0], *(trees.left[inner] for inner in paths.levels)])] = True
    asked = np.flatnonzero((paths.parent >= 0) & (is_above | is_left))
    kind = _kind(trees, paths.parent[asked]) * 2 + is_left[asked]
    asked, kind = asked[order := np.argsort(kind, kind="stable")], kind[order]
    row_of = np.full(len(is_above), -1)
    row_of[asked] = np.arange(len(asked))

    answers = np.empty((len(asked), -(-len(rows) // 8)), dtype=np.uint8)
    for start, stop in pairwise(np.flatnonzero(np.diff(kind, prepend=-1, append=-1))):
        answers[start:stop] = np.packbits(_go_left(trees, paths.parent[asked[start:stop]], rows), axis=1)
        if not is_left[asked[start]]:
            np.invert(answers[start:stop], out=answers[start:stop])
    for inner in paths.levels:
        child = np.concatenate([trees.left[inner], trees.right[inner]])
        child = child[is_above[child]]
        before = paths.last[paths.parent[child], trees.feature[paths.parent[child]]]
        child, before = child[before >= 0], before[before >= 0]
        answers[row_of[child]] &= answers[row_of[before]]
    return row_of, answers


def _kind(trees: Trees, node: Numbers) -> Numbers:
    """Return a number that nodes with the same feature and the same rules share."""
    kind = (trees.feature[node] * 2 + trees.nan_left[node]) * 2 + trees.zero_missing[node]
    return kind * 2 + (trees.codes[node] >= 0)


def _go_left(trees: Trees, node: Numbers, rows: FloatRows) -> Flags:
    """Return whether ``rows`` (N, D) go left at nodes of one kind, (nodes, N)."""
    value = np.ascontiguousarray(rows[:, trees.feature[node[0]]])
    nan_left = trees.nan_left[node[0]]
    is_missing = np.isnan(value)
    if trees.zero_missing[node[0]]:
        is_missing |= abs(value) <= LIGHTGBM_ZERO
    if trees.codes[node[0]] >= 0:
        unheard_of = trees.code_left.shape[1] - 1
        code = np.where(is_missing, -1, value).clip(-1, unheard_of).astype(np.int64)  # -1 is the last column
        by_code = trees.code_left[trees.codes[node]]
        goes_left = by_code.take(code, axis=1, mode="wrap")
        goes_left[:, is_missing] = nan_left
        return goes_left
    # -inf goes left of any threshold, and NaN of none
    value = np.where(is_missing, np.float32(-np.inf if nan_left else np.nan), value)
    return value <= trees.threshold[node][:, None]


def _states(bits: Bits, n_rows: int) -> Numbers:
    """Return the state of each row in each group, (G, N), from its bits (G, b, N / 8)."""
    state = np.zeros((len(bits), n_rows), dtype=np.uint8 if bits.shape[1] <= 8 else np.uint16)
    for position in reversed(range(bits.shape[1])):
        state += state  # in place: a shift would make another
        state |= np.unpackbits(bits[:, position], axis=1, count=n_rows)
    return state.astype(np.int64)


def _tables(alike: Groups) -> Iterator[tuple[slice, Floats]]:
    """Yield runs of groups and their contributions by state, (groups, K, 2^b)."""
    n_states = 1 << alike.bits.shape[1]
    state = np.arange(n_states, dtype=np.int32)
    bounds = np.append(alike.first_leaf, len(alike.value))
    step = max(1, TABLE_SIZE * len(alike.bits) // (n_states * alike.mask.size))
    for start in range(0, len(alike.bits), step):
        stop = min(start + step, len(alike.bits))
        leaves = slice(bounds[start], bounds[stop])
        mask, wanted = (of[leaves, :, None].astype(np.int32) for of in (alike.mask, alike.wanted))
        values = leaf_contributions(alike.fraction[leaves], alike.value[leaves], (state & mask) == wanted)
        if len(values) > stop - start:
            values = np.add.reduceat(values, bounds[start:stop] - bounds[start], axis=0)
        yield slice(start, stop), values


def _add_by_row(out: Floats, alike: Groups, bits: Bits) -> None:
    """Add to ``out`` (D, N) what groups of one leaf each, whose bits (G, K, N / 8) are its features, contribute."""
    for at, columns in enumerate(alike.columns):
        met = np.unpackbits(bits[at], axis=1, count=out.shape[1]).view(np.bool_)  # (K, N)
        out[columns] += leaf_contributions(alike.fraction[[at]], alike.value[[at]], met[None])[0]


def leaf_contributions(fraction: Floats, value: Floats, met: Flags) -> Floats:
    """Return the Shapley values (L, K, S) of K features for L leaves of ``value`` in S states.

    ``fraction`` is (L, K), ``met`` (L, K, S).
    """
    n_features = fraction.shape[1]
    t, weight = _quadrature(max(1, (n_features + 1) // 2))
    unmet = (1 - t) * fraction[:, :, None]  # (L, K, q)
    if_met = t + unmet
    reach = np.repeat((value[:, None] * weight)[:, :, None], met.shape[2], axis=2)  # (L, q, S)
    for k in range(n_features):
        reach *= np.where(met[:, k, None, :], if_met[:, k, :, None], unmet[:, k, :, None])
    gain = (1 - fraction)[:, :, None] / if_met  # (L, K, q)
    return np.where(met, gain @ reach, -(1 / (1 - t)) @ reach[:, None])


@cache
def _quadrature(n_nodes: int) -> tuple[Floats, Floats]:
    """Return nodes and weights that integrate polynomials of degree 2 n_nodes - 1 from 0 to 1 exactly."""
    nodes, weights = np.polynomial.legendre.leggauss(n_nodes)
    return (nodes + 1) / 2, weights / 2
