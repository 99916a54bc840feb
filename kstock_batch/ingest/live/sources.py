"""The live sources of the settings, each behind a polite session of its own."""

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from importlib import import_module
from typing import cast

from kstock_batch.errors import ConfigError
from kstock_batch.ingest.sources.live import Source
from kstock_batch.ingest.web.limits import Limits
from kstock_batch.ingest.web.polite import PoliteSession
from kstock_batch.ingest.web.state import SourceState, utc_now
from kstock_batch.settings import Settings


@dataclass(frozen=True)
class Adapter:
    """A module of ingest/sources/ and its class, how much may be asked of the source, and what is hard-wired in it.

    ``places``: beginnings of addresses in the library it uses, each with the setting that says where that is found.
    """

    kind: str
    limits: Limits
    places: Mapping[str, str] = field(default_factory=dict)


_KRX_SITE = {"https://data.krx.co.kr": "pykrx_url"}
_FDR_CACHE = "https://raw.githubusercontent.com/FinanceData/fdr_krx_data_cache"
# A website that people look at is asked once a second; what is made for programs, as often as it says.
ADAPTERS: Mapping[str, Adapter] = {
    "krx": Adapter("Krx", Limits(calls_a_day=10_000)),
    "pykrx": Adapter("Pykrx", Limits(calls_a_day=5_000, min_interval_s=1.0), _KRX_SITE),
    "fdr": Adapter(
        "Fdr",
        Limits(calls_a_day=500, min_interval_s=1.0),
        {**_KRX_SITE, _FDR_CACHE: "fdr_url", "https://kind.krx.co.kr": "kind_url"},
    ),
    "marcap": Adapter("Marcap", Limits(calls_a_day=200, min_interval_s=1.0)),
    "dart": Adapter("Dart", Limits(calls_a_day=10_000)),
    "fred": Adapter("Fred", Limits(calls_a_day=500)),
    "yahoo": Adapter("Yahoo", Limits(calls_a_day=500, min_interval_s=1.0)),
    "bot": Adapter("Bot", Limits()),
}


def state_of(settings: Settings) -> SourceState:
    """Return what the processes of this machine share about sources: blocks, calls, pace."""
    return SourceState(settings.warehouse / "sources")


def require_known(settings: Settings, names: Sequence[str]) -> None:
    """Raise if one of the names is none of the settings' sources."""
    if unknown := sorted(set(names) - set(settings.sources)):
        raise ConfigError(
            f"{', '.join(unknown)} is none of the live sources {', '.join(settings.sources)}",
            fix="name one of those, or add it to `sources` in kstock.toml",
        )


def make_sources(
    settings: Settings,
    environ: Mapping[str, str],
    state: SourceState,
    only: Sequence[str] = (),
    *,
    sleep: Callable[[float], None] = time.sleep,
    now: Callable[[], datetime] = utc_now,
) -> list[Source]:
    """Return the sources of the settings in their order, or those of them that are named; whether ready or not."""
    require_known(settings, only)
    made = []
    for name in settings.sources:
        if only and name not in only:
            continue
        adapter = ADAPTERS[name]
        places = {place: str(getattr(settings, key)) for place, key in adapter.places.items()}
        session = PoliteSession(name, state, adapter.limits, redirect=places, sleep=sleep, now=now)
        kind = getattr(import_module(f"kstock_batch.ingest.sources.{name}"), adapter.kind)
        made.append(cast(Source, kind(settings, session, environ)))
    return made
