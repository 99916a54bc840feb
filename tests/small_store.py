"""A store of a few rows written by hand, and publications of it: what the tests of publish and reader stand on."""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from datetime import date, datetime, timedelta
from pathlib import Path

from kstock_batch.bot.results import score_bonus, signal_label
from kstock_batch.serving.publication.publish import Publication, publish
from kstock_batch.settings import Settings
from kstock_batch.store.warehouse import Warehouse

MONDAY, TUESDAY, WEDNESDAY, THURSDAY, FRIDAY = (date(2024, 6, day) for day in range(24, 29))
NOON = datetime(2024, 6, 25, 3)  # in Seoul, as UTC


@contextmanager
def small_store(root: Path) -> Iterator[Warehouse]:
    """Three listed stocks, and the sessions of one week whose Wednesday is a holiday."""
    root.mkdir(parents=True, exist_ok=True)
    with Warehouse.open(Settings(root=root)) as warehouse:
        for session in (MONDAY, TUESDAY, THURSDAY, FRIDAY):
            cutoff = datetime.combine(session, datetime.min.time()) + timedelta(hours=9, minutes=30)
            warehouse.con.execute(
                "INSERT INTO raw_calendar VALUES ($session, $cutoff, $cutoff, $cutoff, NULL)",
                {"session": session, "cutoff": cutoff},
            )
        for ticker, name in (("005930", "삼성전자"), ("000660", "SK하이닉스")):
            warehouse.con.execute(
                "INSERT INTO raw_listing VALUES ($ticker, $name, 'KOSPI', '반도체', NULL, false, false, NULL, NULL,"
                " 'test', $at, $at, 1, NULL)",
                {"ticker": ticker, "name": name, "at": NOON},
            )
        yield warehouse


def reopened_store(root: Path) -> Warehouse:
    return Warehouse.open(Settings(root=root))


def predict(warehouse: Warehouse, as_of: date, signals: Mapping[str, float], *, run_id: str = "run-1") -> None:
    """Add a session's predictions, best first."""
    for rank, (ticker, signal) in enumerate(sorted(signals.items(), key=lambda item: -item[1]), start=1):
        warehouse.con.execute(
            "INSERT INTO prediction VALUES ($as_of, $ticker, $signal / 2, $signal, $label, $bonus, 0.24,"
            " $signal / 0.48, $rank, 100.0, 0.1, 0.2, NULL, 'model-1', 'abc', $run_id, $at, '[]', NULL)",
            {
                "as_of": as_of,
                "ticker": ticker,
                "signal": signal,
                "label": signal_label(signal),
                "bonus": score_bonus(signal),
                "rank": rank,
                "run_id": run_id,
                "at": NOON,
            },
        )


def publish_now(warehouse: Warehouse, target: Path, run_id: str = "run-1") -> Publication:
    return publish(warehouse, target, run_id=run_id, published_at=NOON, model_card={"auc": 0.57, "seeds": [1, 2]})
