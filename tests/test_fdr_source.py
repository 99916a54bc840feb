"""FinanceDataReader's files and KIND's page as a source: read as the library reads them, with the day they are of."""

from datetime import date, datetime

import polars as pl
import pytest
from polars.testing import assert_frame_equal

from fake_exchange.fdr import FILES, KIND, NOT_THERE, delisted, described, serve_fdr, traded
from fake_exchange.market import DELISTED, DELISTED_AT, PREFERRED, SPLIT, small_market
from fake_exchange.server import BLOCK_PAGE, FIREWALL, FakeExchange, Reply, changed_column, replaced
from kstock_batch.errors import SourceBlocked, SourceChanged
from kstock_batch.ingest.live.datasets import DATASETS
from kstock_batch.ingest.sources.fdr import Fdr
from kstock_batch.ingest.web.detour import detour
from kstock_batch.ingest.web.limits import Limits
from kstock_batch.ingest.web.polite import PoliteSession
from kstock_batch.ingest.web.state import SourceState
from kstock_batch.settings import Settings

MARKET = small_market()
FIRST, LAST = MARKET.sessions[0], MARKET.sessions[-1]
GONE_ON = MARKET.sessions[DELISTED_AT]  # the first session without the delisted stock
CLOSED = date(2026, 6, 3)


@pytest.fixture
def exchange():
    with FakeExchange() as running:
        serve_fdr(running, MARKET)
        yield running


@pytest.fixture
def session(exchange, tmp_path):
    cache = "https://raw.githubusercontent.com/FinanceData/fdr_krx_data_cache"
    hosts = (cache, "http://data.krx.co.kr", "http://kind.krx.co.kr")
    return PoliteSession(
        "fdr",
        SourceState(tmp_path / "state"),
        Limits(attempts=1, min_interval_s=0, timeout_s=5),
        redirect=dict.fromkeys(hosts, exchange.url),
    )


@pytest.fixture
def fdr(exchange, tmp_path, session):
    return Fdr(Settings(root=tmp_path, fdr_url=exchange.url, kind_url=exchange.url), session, {})


def at(day, hour, minute):
    return datetime(day.year, day.month, day.day, hour, minute)


def test_prices_come_as_printed_to_the_last_digit_and_market_values_with_them_in_one_call(fdr, exchange):
    rows = fdr.fetch("price", LAST, LAST)
    values = fdr.fetch("market_cap", LAST, LAST)
    told = MARKET.of("price", LAST)
    for ours, theirs in (
        ("close", "close"),
        ("volume", "volume"),
        ("traded_value", "traded_value"),
        ("change_pct", "change_pct"),
    ):
        assert rows[ours].to_list() == told[theirs].to_list(), ours
    assert values["market_cap"].to_list() == told["market_cap"].to_list()
    assert values["shares_outstanding"].to_list() == rows["shares_outstanding"].to_list() == told["shares"].to_list()
    assert rows.row(0, named=True) | {"open": 0, "high": 0, "low": 0} == {
        "ticker": told["ticker"][0],
        "session": LAST,
        "price_basis": "raw",
        **{name: told[name][0] for name in ("close", "volume", "traded_value", "change_pct")},
        **dict.fromkeys(("open", "high", "low"), 0),
        "shares_outstanding": told["shares"][0],
        "source": "fdr",
        "available_at": at(LAST, 6, 45),  # 15:45 in Seoul
    }
    assert fdr.n_calls == exchange.n_calls() == 1


def test_a_listing_tells_industries_and_the_first_day_and_no_sector(fdr, exchange):
    rows = fdr.fetch("listing", FIRST, FIRST)
    told = MARKET.listed(FIRST).sort("ticker")
    assert rows.columns == [*DATASETS["listing"].table.columns, "source", "available_at"]
    for column in ("ticker", "name", "market"):
        assert rows[column].to_list() == told[column].to_list(), column
    row, own = (frame.row(by_predicate=pl.col("ticker") == SPLIT, named=True) for frame in (rows, told))
    assert (row["industry"], row["first_seen"]) == (own["industry"], own["first_seen"])
    assert row["sector"] is row["last_seen"] is None
    assert row["available_at"] == at(FIRST, 6, 45)
    assert rows.row(by_predicate=pl.col("ticker") == PREFERRED[0], named=True)["industry"] is None
    assert exchange.n_calls() == 2


def test_a_stock_that_has_just_left_is_told_with_its_last_day_and_what_moved_or_is_no_share_is_not(fdr):
    rows = fdr.fetch("listing", GONE_ON, GONE_ON)
    left = rows.filter(pl.col("last_seen").is_not_null())
    assert left.select("ticker", "last_seen").rows() == [(DELISTED, MARKET.sessions[DELISTED_AT - 1])]
    assert rows["ticker"].is_unique().all()
    assert DELISTED not in fdr.fetch("listing", LAST, LAST)["ticker"].to_list(), "left long ago"


def test_a_week_of_listings_is_the_last_word_on_each_ticker(fdr):
    rows = fdr.fetch("listing", MARKET.sessions[DELISTED_AT - 2], GONE_ON)
    assert rows["ticker"].is_unique().all()
    assert rows.filter(ticker=DELISTED)["last_seen"].to_list() == [MARKET.sessions[DELISTED_AT - 1]]
    assert set(rows["available_at"]) == {at(GONE_ON, 6, 45)}


def test_designations_count_from_their_own_day_in_the_exchanges_words(fdr, exchange):
    rows = fdr.fetch("designation", FIRST, LAST)
    told = MARKET.designation.row(0, named=True)
    assert rows.rows() == [
        (DELISTED, "administrative", told["designated_on"], told["reason"], "fdr", at(told["designated_on"], 6, 45))
    ]
    assert exchange.calls[0].query == {
        "method": "searchAdminIssueSub",
        "currentPageSize": "5000",
        "forward": "adminissue_down",
    }


def test_designations_of_other_days_are_not_told(fdr):
    day = MARKET.designation["designated_on"][0]
    assert fdr.fetch("designation", FIRST, date(day.year, day.month, day.day - 1)).is_empty()


def test_nobody_under_designation_is_no_row(fdr, exchange):
    serve_fdr(exchange, MARKET, published=FIRST)
    assert fdr.fetch("designation", FIRST, LAST).is_empty()


@pytest.mark.parametrize("encoding", ["utf-8", "cp949"])
def test_the_page_is_read_in_either_encoding(fdr, exchange, encoding):
    reason = "상장폐지사유 발생(똠방각하)"  # a syllable that EUC-KR proper has not
    head = "<tr><th> 종목코드 </th><th>종목명</th><th>지정일</th><th>지정사유</th></tr>"
    row = f"<tr><td>1234</td><td>갑</td><td>2026/05/11</td><td>{reason}<br/>\n 외</td></tr>"
    exchange.serve(KIND, Reply(f"<table>{head}{row}</table>".encode(encoding), content_type="text/html"))
    rows = fdr.fetch("designation", FIRST, LAST)
    assert rows.select("ticker", "reason").rows() == [("001234", "상장폐지사유 발생(똠방각하) 외")]


@pytest.mark.parametrize("dataset", ["price", "market_cap", "listing"])
@pytest.mark.parametrize("day", [CLOSED, date(2026, 5, 23)])
def test_a_day_without_a_file_has_no_rows(fdr, exchange, dataset, day):
    rows = fdr.fetch(dataset, day, day)
    assert rows.is_empty()
    assert rows.columns == [*DATASETS[dataset].table.columns, "source", "available_at"]
    assert exchange.n_calls() == (1 if day.weekday() < 5 else 0), "a weekend is not asked for"


def test_a_file_that_is_not_there_yet_is_asked_for_again(fdr, exchange):
    serve_fdr(exchange, MARKET, published=MARKET.sessions[-2])
    assert fdr.fetch("price", LAST, LAST).is_empty()
    serve_fdr(exchange, MARKET)
    assert not fdr.fetch("price", LAST, LAST).is_empty()


def test_a_listing_stands_without_the_file_of_delistings(fdr, exchange):
    exchange.serve(f"{FILES}/delisting/{GONE_ON}.csv", NOT_THERE)
    rows = fdr.fetch("listing", GONE_ON, GONE_ON)
    assert rows.height == MARKET.listed(GONE_ON).height


def test_stocks_of_the_third_market_are_left_out(fdr, exchange):
    small = traded(MARKET, LAST).with_columns(Market=pl.lit("KONEX"))
    exchange.serve(f"{FILES}/krx/{LAST}.csv", Reply(small.write_csv().encode(), content_type="text/plain"))
    assert fdr.fetch("price", LAST, LAST).is_empty()


@pytest.mark.parametrize(
    ("dataset", "old", "new", "says"),
    [
        ("price", "ChagesRatio", "ChangesRatio", r"fdr krx/2026-07-31.csv answers without \['ChagesRatio'\]; it has"),
        ("market_cap", "Marcap", "MarketCap", r"fdr krx/2026-07-31.csv answers without \['Marcap'\]"),
        ("listing", "ListingDate", "ListedOn", r"fdr desc/2026-07-31.csv answers without \['ListingDate'\]"),
    ],
)
def test_a_column_that_is_named_otherwise_is_named(fdr, exchange, dataset, old, new, says):
    exchange.fail(f"{FILES}/*", changed_column(old, new))
    with pytest.raises(SourceChanged, match=says):
        fdr.fetch(dataset, LAST, LAST)


@pytest.mark.parametrize(
    ("reply", "says"),
    [
        (Reply(b"gone", 410, "text/plain"), "fdr KIND administrative issues answers 410 Gone"),
        (
            Reply(b"<html><body>hello</body></html>", 200, "text/html"),
            r"answers a page without a table of \['종목코드', ",
        ),
        (Reply("<table><tr><th>종목코드</th></tr></table>".encode(), 200, "text/html"), r"it has \[\['종목코드'\]\]"),
    ],
)
def test_a_page_of_another_shape_is_named(fdr, exchange, reply, says):
    exchange.serve(KIND, reply)
    with pytest.raises(SourceChanged, match=says):
        fdr.fetch("designation", FIRST, LAST)


@pytest.mark.parametrize(
    ("dataset", "page"),
    [
        ("price", BLOCK_PAGE),
        ("listing", FIREWALL),
        ("designation", BLOCK_PAGE),
        ("price", replaced(Reply.html("<html>hi</html>"))),
    ],
)
def test_a_wall_shuts_the_source(fdr, exchange, dataset, page):
    exchange.fail("*", page)
    for _ in range(2):
        with pytest.raises(SourceBlocked, match="fdr has shut us out"):
            fdr.fetch(dataset, LAST, LAST)
    assert exchange.n_calls() == 1


def test_no_package_and_no_key_is_needed(fdr):
    assert fdr.needs() == []


@pytest.fixture
def library():
    """FinanceDataReader itself, which is no dependency of ours: a test reads its files with both."""
    listing = pytest.importorskip("FinanceDataReader.krx.listing", reason="finance-datareader is not installed")
    return listing


@pytest.mark.filterwarnings("ignore")  # of the library and of pandas
def test_the_library_reads_the_same_of_the_newest_day(library, fdr, session):
    with detour(session):
        prices = library.KrxMarcapListingCache("KRX").read()
        names = library.KrxStockListingCache("KRX-DESC").read()
    ours = fdr.fetch("price", LAST, LAST)
    theirs = pl.DataFrame(prices[["Code", "Close", "Volume", "Amount", "ChagesRatio", "Stocks"]].to_dict("list"))
    assert_frame_equal(
        ours.select("ticker", "close", "volume", "traded_value", "change_pct", "shares_outstanding"),
        theirs.rename(
            dict(
                zip(
                    theirs.columns,
                    ("ticker", "close", "volume", "traded_value", "change_pct", "shares_outstanding"),
                    strict=True,
                )
            )
        ).sort("ticker"),
        check_dtypes=False,
    )
    listed = fdr.fetch("listing", LAST, LAST)
    assert listed["ticker"].to_list() == sorted(names["Code"])
    assert listed["industry"].to_list() == [
        None if isinstance(sector, float) else sector
        for _, sector in sorted(zip(names["Code"], names["Sector"], strict=True))
    ]


@pytest.mark.filterwarnings("ignore")
def test_the_library_reads_the_same_designations(library, fdr, session):
    pytest.importorskip("lxml")
    with detour(session):
        theirs = library.KrxAdministrative("KRX").read()
    ours = fdr.fetch("designation", FIRST, LAST)
    assert ours["reason"].to_list() == theirs["Reason"].to_list()
    assert ours["designated_on"].to_list() == [stamp.date() for stamp in theirs["DesignationDate"]]


def test_the_fake_files_have_the_columns_that_the_library_reads(library):
    import inspect

    source = inspect.getsource(library)
    for rows in (traded(MARKET, LAST), described(MARKET, LAST), delisted(MARKET, LAST)):
        known = [name for name in rows.columns if f"'{name}'" in source]
        assert known == rows.columns or set(rows.columns) - set(known) <= {"ISU_CD"}
