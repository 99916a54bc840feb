"""The leaves of trees in groups that a few yes-or-no questions tell apart.

A leaf's contributions depend on a row only through one bit per distinct feature of its path: does the row meet all of
the path's conditions on it? A group is a subtree, or a single leaf. Its bits are those of the path down to it and the
answers of the nodes inside it; with b bits a row is in one of 2^b states, and equal states mean equal contributions of
all leaves of the group together.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from kstock_batch.learners.tree_paths import Numbers, Trees

MAX_BITS = 7  # of a subtree: each bit more means fewer groups of twice the states; best for 2,700 rows

# Of what is known of each node and column there are millions, most of them nothing: kept as short as they can be.
Nodes = NDArray[np.int32]
Masks = NDArray[np.int16]  # states of up to 15 bits; a leaf of more is computed per row, and its mask not read


@dataclass(frozen=True)
class Paths:
    """What is known of the M nodes of trees on the way down.

    Attributes
    ----------
    levels : the inner nodes of each level, top down
    leaf : (L,) all leaves
    parent : (M,) -1 of a root
    last : (M, D) int32, the last node on the path whose parent asks for that feature, -1 if none does
    fraction : (M, D) the part of the training data the path's conditions on that feature leave
    first : (M,) the first node of the subtree that is the node's group; itself above all groups
    """

    levels: tuple[Numbers, ...]
    leaf: Numbers
    parent: Numbers
    last: Nodes
    fraction: NDArray[np.float64]
    first: Numbers


@dataclass(frozen=True)
class Groups:
    """G groups of b bits and K distinct features each, and their L leaves in order of groups.

    A feature of the group that is not on a leaf's own path is a condition everybody meets: fraction 1, mask 0.

    Attributes
    ----------
    bits : (G, b) the node each bit asks for, lowest first: does a row come from the node's parent to it?
    columns : (G, K) the group's features, ascending
    first_leaf : (G,) where the leaves of each group begin
    fraction : (L, K) the part of the training data a leaf's conditions on that feature leave
    mask, wanted : (L, K) a state meets a leaf's conditions on that feature where ``state & mask == wanted``
    value : (L,) what each leaf adds
    """

    bits: Numbers
    columns: Numbers
    first_leaf: Numbers
    fraction: NDArray[np.float64]
    mask: Masks
    wanted: Masks
    value: NDArray[np.float64]


def walk(trees: Trees) -> Paths:
    """Return the paths to all nodes of ``trees``, and which subtrees are groups."""
    n_nodes = len(trees.left)
    parent = np.full(n_nodes, -1)
    last = np.full((n_nodes, trees.n_columns), -1, dtype=np.int32)
    fraction = np.ones(last.shape)
    levels, leaves, nodes = [], [], trees.root
    while len(nodes):
        is_leaf = trees.left[nodes] < 0
        leaves.append(nodes[is_leaf])
        levels.append(inner := nodes[~is_leaf])
        feature = trees.feature[inner]
        for child in (trees.left[inner], trees.right[inner]):
            parent[child] = inner
            last[child], fraction[child] = last[inner], fraction[inner]
            last[child, feature] = child
            # where nobody came by, nobody goes on: 0, not 0 / 0
            fraction[child, feature] *= trees.cover[child] / np.maximum(trees.cover[inner], np.finfo(np.float64).tiny)
        nodes = np.concatenate([trees.left[inner], trees.right[inner]])
    first = _first_nodes(trees, levels, (last >= 0).sum(axis=1))
    return Paths(tuple(levels), np.concatenate([trees.root[:0], *leaves]), parent, last, fraction, first)


def group(trees: Trees, paths: Paths) -> list[Groups]:
    """Return the groups that cover all leaves of ``trees``, those of as many bits and features together."""
    bits, mask, wanted = _bits(trees, paths)
    leaf = paths.leaf[np.argsort(paths.first[paths.leaf], kind="stable")]
    first, start, n_leaves = np.unique(paths.first[leaf], return_index=True, return_counts=True)
    if not len(leaf):
        return []
    is_used = np.logical_or.reduceat(paths.last[leaf] >= 0, start)  # (all groups, D)
    n_bits, n_features = (bits[first] >= 0).sum(axis=1), is_used.sum(axis=1)
    found = []
    for b, k in np.unique(np.stack([n_bits, n_features], axis=1)[n_bits > 0], axis=0):  # 0 bits: no node, no feature
        alike = (n_bits == b) & (n_features == k)
        columns = np.nonzero(is_used[alike])[1].reshape(-1, k)
        own = leaf[np.repeat(alike, n_leaves)]  # (L,)
        slots = np.repeat(columns, n_leaves[alike], axis=0)  # (L, K)
        fraction, masks, wants = (of[own[:, None], slots] for of in (paths.fraction, mask, wanted))
        first_leaf = np.cumsum(n_leaves[alike]) - n_leaves[alike]
        found.append(Groups(bits[first[alike], :b], columns, first_leaf, fraction, masks, wants, trees.value[own]))
    return found


def _first_nodes(trees: Trees, levels: Sequence[Numbers], n_features: Numbers) -> Numbers:
    """Return (M,) the first node of each node's group: groups are the largest subtrees of at most MAX_BITS bits."""
    n_below = np.zeros(len(n_features), dtype=np.int64)  # inner nodes from here down
    for inner in reversed(levels):
        n_below[inner] = 1 + n_below[trees.left[inner]] + n_below[trees.right[inner]]
    first = np.arange(len(n_features))
    for inner in levels:
        whole = inner[n_features[inner] + n_below[inner] <= MAX_BITS]
        first[trees.left[whole]] = first[trees.right[whole]] = first[whole]
    return first


def _bits(trees: Trees, paths: Paths) -> tuple[Numbers, Masks, Masks]:
    """Return the nodes a group's bits ask for, (M, most bits), -1 beyond, and masks and wanted bits, (M, D)."""
    is_on = paths.last >= 0
    n_features = is_on.sum(axis=1)
    inside = np.concatenate([trees.root[:0], *paths.levels])  # the nodes that split a group
    inside = inside[paths.first[trees.left[inside]] == paths.first[inside]]
    inside = inside[np.argsort(paths.first[inside], kind="stable")]
    _, start, count = np.unique(paths.first[inside], return_index=True, return_counts=True)
    bit = np.full(len(n_features), -1)
    bit[inside] = n_features[paths.first[inside]] + np.arange(len(inside)) - np.repeat(start, count)

    bits = np.full((len(n_features), max(n_features.max(initial=0), MAX_BITS)), -1)
    rank = np.cumsum(is_on, axis=1, dtype=np.int16) - is_on  # of a feature among those on the path
    node, feature = np.nonzero(is_on)
    bits[node, rank[node, feature]] = paths.last[node, feature]
    bits[paths.first[inside], bit[inside]] = trees.left[inside]

    mask: Masks = is_on << rank
    wanted = mask.copy()
    for level in paths.levels:
        inner = level[bit[level] >= 0]
        for child, answer in ((trees.left[inner], 1), (trees.right[inner], 0)):
            mask[child], wanted[child] = mask[inner], wanted[inner]
            mask[child, trees.feature[inner]] |= 1 << bit[inner]
            wanted[child, trees.feature[inner]] |= answer << bit[inner]
    return bits, mask, wanted
