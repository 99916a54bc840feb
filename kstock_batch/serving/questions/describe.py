"""One feature described: what the contract says of it, and what its values were in the newest session."""

from difflib import get_close_matches
from typing import Any

import duckdb

from kstock_batch.errors import ConfigError
from kstock_batch.market.contract import DTYPE, FEATURE_NAMES, FEATURES, Feature
from kstock_batch.market.extra_features import EXTRA_FEATURES, ExtraFeature
from kstock_batch.store.queries import Query

AS_INPUT = {
    "value": "as it is",
    "per_close": "divided by the close",
    "close_over": "close / it - 1",
    "category": "as a category, never a number",
}


def feature_called(name: str) -> Feature | ExtraFeature:
    """Return the feature, or say which names are meant."""
    listed: list[Feature | ExtraFeature] = [*FEATURES, *EXTRA_FEATURES]
    known = {feature.name: feature for feature in listed}
    found = known.get(name)
    if found is None:
        near = get_close_matches(name, known) or FEATURE_NAMES
        raise ConfigError(f"no feature is called {name}", fix=f"use one of {list(near)}, or see `features list`")
    return found


def contract_facts(feature: Feature | ExtraFeature) -> dict[str, Any]:
    """Return what the contract says, by name."""
    bars = feature.null_until
    return {
        "name": feature.name,
        "definition": feature.definition,
        "scope": feature.scope,
        "dtype": DTYPE,
        "as_input": AS_INPUT[feature.as_input],
        "null": f"until {bars} bars, or where an input is unknown" if bars else "where the fact is unknown or too old",
        "version": feature.version,
    }


def newest_values(con: duckdb.DuckDBPyConnection, feature: Feature | ExtraFeature) -> dict[str, Any]:
    """Return the newest session, how many of its rows lack the feature, and how far the others reach."""
    rows = Query.load("reports/newest_feature").frame(con)
    if rows.is_empty():
        return {}
    values = rows[feature.name]
    return {
        "as_of": rows["as_of"][0],
        "n_rows": rows.height,
        "null_share": round(values.null_count() / rows.height, 4),
        "min": values.min(),
        "median": values.median(),
        "max": values.max(),
    }
