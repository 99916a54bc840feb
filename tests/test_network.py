"""A smoke test for who has access: each live source that is ready answers a question about the last days.

It is run by `pytest -m network` alone, with the credentials of docs/sources.md in the environment.
"""

import os
from datetime import timedelta

import pytest

from kstock_batch.ingest.live.sources import ADAPTERS, make_sources, state_of
from kstock_batch.ingest.web.state import utc_now
from kstock_batch.market.sessions import krx_sessions, seoul_date
from kstock_batch.settings import Settings

CREDENTIALS = dict(os.environ)  # before the tests are cut off from the environment


@pytest.mark.network
@pytest.mark.parametrize("name", sorted(set(ADAPTERS) - {"bot"}))
def test_a_live_source_tells_the_last_days_what_it_offers(name, tmp_path):
    settings = Settings(root=tmp_path)
    (source,) = make_sources(settings, CREDENTIALS, state_of(settings), only=(name,))
    if needs := source.needs():
        pytest.skip(f"{name} is not ready: {needs[0].what}")
    today = seoul_date(utc_now())
    session = krx_sessions(today - timedelta(days=14), today - timedelta(days=3))[-1]
    for dataset, span in source.offers.items():
        start = session if span == "day" else session - timedelta(days=10)
        rows = source.fetch(dataset, start, session)
        assert rows.height, f"{name} has no {dataset} for {start} … {session}"
        assert rows["available_at"].null_count() == 0
