"""Flow features: signs over five bars, each as known on the night that asks."""

from datetime import date, time, timedelta

import pytest

from hand_store import hand_store, prices, put, weekdays
from kstock_batch.features.replay import compute_features
from kstock_batch.market.sessions import to_utc

DAYS = weekdays(date(2024, 3, 4), 12)
NAME = "foreign_net_buy_days"


def flow(day, net, *, at=time(18, 10), days_late=0, version=1):
    known = to_utc(day + timedelta(days=days_late), at)
    row = {"ticker": "000010", "session": day, "foreign_net": net, "institution_net": net, "available_at": known}
    return row | {"version": version}


def counts(tmp_path, flows):
    with hand_store(tmp_path, DAYS) as warehouse:
        put(warehouse, "raw_price", prices("000010", DAYS, [100] * len(DAYS)))
        put(warehouse, "raw_flow", flows)
        rows = compute_features(warehouse.con, DAYS[0], DAYS[-1])
    assert rows[NAME].to_list() == rows["institution_net_buy_days"].to_list()
    return dict(zip(rows["as_of"], rows[NAME], strict=True))


@pytest.mark.parametrize(
    ("nets", "wanted"),
    [
        ([1.0, 2.0, 0.0, -3.0, 4.0], 2),
        ([-1.0] * 5, -5),
        ([1.0, None, 1.0, 1.0, 1.0], None),
    ],
)
def test_flow_days_count_signs_over_five_known_bars(tmp_path, nets, wanted):
    found = counts(tmp_path, [flow(day, net) for day, net in zip(DAYS, nets, strict=False)])
    assert found[DAYS[4]] == wanted
    assert found[DAYS[3]] is None
    assert found[DAYS[5]] is None, "the sixth bar has no figure"


def test_a_figure_that_comes_a_night_late_is_unknown_to_its_own_night_and_known_to_the_next(tmp_path):
    flows = [flow(day, 1.0) for day in DAYS if day != DAYS[6]]
    found = counts(tmp_path, [*flows, flow(DAYS[6], 1.0, at=time(8, 0), days_late=1)])
    assert found[DAYS[6]] is None
    assert found[DAYS[7]] == 5


def test_a_corrected_figure_counts_from_the_night_that_could_know_it(tmp_path):
    flows = [flow(day, 1.0) for day in DAYS]
    found = counts(tmp_path, [*flows, flow(DAYS[5], -1.0, at=time(9, 0), days_late=2, version=2)])
    assert [found[DAYS[n]] for n in range(4, 11)] == [5, 5, 5, 3, 3, 3, 5], "from the third session after on"


def test_no_flows_at_all_are_unknown_not_zero(tmp_path):
    with hand_store(tmp_path, DAYS) as warehouse:
        put(warehouse, "raw_price", prices("000010", DAYS, [100] * len(DAYS)))
        rows = compute_features(warehouse.con, DAYS[0], DAYS[-1])
    assert rows[NAME].null_count() == rows.height == len(DAYS)
