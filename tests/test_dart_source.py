"""OpenDART as a source: figures of the year so far, consolidated first, known from the midnight after their receipt."""

import logging
from dataclasses import replace
from datetime import date, datetime

import pytest

from fake_exchange.dart import (
    MAINTENANCE,
    QUOTA,
    Filing,
    corrected,
    filings_of,
    serve_dart,
    status,
    status_xml,
)
from fake_exchange.market import small_market
from fake_exchange.server import BLOCK_PAGE, CUT_SHORT, FakeExchange, Reply, changed_column, replaced, rewritten
from kstock_batch.errors import BudgetSpent, CredentialRefused, SourceBlocked, SourceChanged, SourceUnreachable
from kstock_batch.ingest.live.datasets import DATASETS
from kstock_batch.ingest.sources.dart import Dart, Report
from kstock_batch.ingest.web.limits import Limits
from kstock_batch.ingest.web.polite import PoliteSession
from kstock_batch.ingest.web.state import SourceState
from kstock_batch.settings import Settings

KEY = "0123456789abcdef0123456789abcdef01234567"
LIST, ACCOUNTS, CODES = "/api/list.json", "/api/fnlttMultiAcnt.json", "/api/corpCode.xml"
FIGURES = {
    "revenue_ytd": 300_000_000_001,
    "op_income_ytd": -1_234_567_890,
    "net_income_ytd": 900_000_003,
    "equity": 400_000_000_000,
    "liabilities": 100_000_000_000,
    "assets": 500_000_000_000,
}
DAY = date(2026, 11, 13)
QUARTER = Filing("00126380", "005930", date(2026, 9, 30), DAY, 9, FIGURES)


@pytest.fixture
def exchange():
    with FakeExchange() as running:
        yield running


def opened(exchange, root, filings, key=KEY):
    serve_dart(exchange, filings, key=KEY)
    session = PoliteSession("dart", SourceState(root / "state"), Limits(attempts=1, min_interval_s=0, timeout_s=5))
    return Dart(Settings(root=root, dart_url=f"{exchange.url}/api"), session, {"KSTOCK_DART_KEY": key})


@pytest.fixture
def dart(exchange, tmp_path):
    return opened(exchange, tmp_path, [QUARTER])


def row_of(rows):
    assert rows.height == 1
    return rows.row(0, named=True)


def test_figures_come_in_won_to_the_last_digit_and_count_from_the_midnight_after_their_receipt(dart):
    rows = dart.fetch("financial", DAY, DAY)
    assert rows.columns == [*DATASETS["financial"].table.columns, "source", "available_at"]
    assert row_of(rows) == {
        "ticker": "005930",
        "period_end": date(2026, 9, 30),
        **{name: float(value) for name, value in FIGURES.items()},
        "debt_ratio": 25.0,
        "source": "dart",
        "available_at": datetime(2026, 11, 13, 15),  # 00:00 on the 14th in Seoul
    }


@pytest.mark.parametrize(("so_far", "period_end"), [(3, (3, 31)), (6, (6, 30)), (9, (9, 30)), (12, (12, 31))])
def test_income_is_that_of_the_fiscal_year_so_far_in_every_kind_of_report(exchange, tmp_path, so_far, period_end):
    filing = replace(QUARTER, so_far=so_far, period_end=date(2025, *period_end))
    row = row_of(opened(exchange, tmp_path, [filing]).fetch("financial", DAY, DAY))
    assert row["period_end"] == date(2025, *period_end)
    assert {name: row[name] for name in FIGURES} == FIGURES


@pytest.mark.parametrize(("so_far", "revenue"), [(3, 300.0), (6, None), (9, None), (12, 300.0)])
def test_an_amount_of_three_months_is_never_taken_for_that_of_the_year(exchange, tmp_path, so_far, revenue):
    filing = replace(QUARTER, so_far=so_far, period_end=date(2025, so_far, 30 if so_far in (6, 9) else 31))
    dart = opened(exchange, tmp_path, [filing])
    exchange.fail(ACCOUNTS, rewritten(lambda row: row | {"thstrm_amount": "300", "thstrm_add_amount": "-"}))
    row = row_of(dart.fetch("financial", DAY, DAY))
    assert row["revenue_ytd"] == revenue
    assert row["assets"] == 300.0


def test_the_sum_of_an_annual_report_is_its_amount_whatever_stands_beside_it(exchange, tmp_path):
    filing = replace(QUARTER, so_far=12, period_end=date(2025, 12, 31))
    dart = opened(exchange, tmp_path, [filing])
    exchange.fail(ACCOUNTS, rewritten(lambda row: row | {"thstrm_add_amount": "0"}))
    assert row_of(dart.fetch("financial", DAY, DAY))["revenue_ytd"] == FIGURES["revenue_ytd"]


def test_consolidated_figures_are_taken_and_separate_ones_never_mixed_in(exchange, tmp_path):
    separate = replace(QUARTER, basis="OFS", figures={name: 7 for name in FIGURES})
    lacking = replace(QUARTER, figures=FIGURES | {"liabilities": None})
    row = row_of(opened(exchange, tmp_path, [separate, lacking]).fetch("financial", DAY, DAY))
    assert row["equity"] == FIGURES["equity"]
    assert row["liabilities"] is row["debt_ratio"] is None


def test_a_company_without_subsidiaries_has_separate_figures(exchange, tmp_path):
    dart = opened(exchange, tmp_path, [replace(QUARTER, basis="OFS")])
    assert row_of(dart.fetch("financial", DAY, DAY))["revenue_ytd"] == FIGURES["revenue_ytd"]


@pytest.mark.parametrize("equity", [0, -5, None])
def test_no_debt_ratio_without_equity(exchange, tmp_path, equity):
    filing = replace(QUARTER, figures=FIGURES | {"equity": equity})
    row = row_of(opened(exchange, tmp_path, [filing]).fetch("financial", DAY, DAY))
    assert row["debt_ratio"] is None
    assert row["liabilities"] == FIGURES["liabilities"]


@pytest.mark.parametrize(
    ("ours", "theirs"),
    [
        ("revenue_ytd", "수익(매출액)"),
        ("revenue_ytd", "영업수익"),
        ("op_income_ytd", "영업이익(손실)"),
        ("net_income_ytd", "당기순이익"),
        ("net_income_ytd", "분기순이익 (손실)"),
        ("net_income_ytd", "반기순이익(손실)"),
    ],
)
def test_accounts_have_several_names(exchange, tmp_path, ours, theirs):
    dart = opened(exchange, tmp_path, [QUARTER])
    usual = {"revenue_ytd": "매출액", "op_income_ytd": "영업이익", "net_income_ytd": "당기순이익(손실)"}[ours]
    exchange.fail(ACCOUNTS, rewritten(lambda row: row | {"account_nm": row["account_nm"].replace(usual, theirs)}))
    assert row_of(dart.fetch("financial", DAY, DAY))[ours] == FIGURES[ours]


def test_figures_in_another_currency_are_unknown(exchange, tmp_path):
    assert opened(exchange, tmp_path, [replace(QUARTER, currency="CNY")]).fetch("financial", DAY, DAY).is_empty()


def test_a_correction_has_its_own_figures_and_counts_from_its_own_receipt(exchange, tmp_path):
    later = corrected(QUARTER, date(2026, 12, 1), equity=200_000_000_000)
    dart = opened(exchange, tmp_path, [QUARTER, later])
    row = row_of(dart.fetch("financial", later.received_on, later.received_on))
    assert (row["equity"], row["debt_ratio"], row["available_at"]) == (2e11, 50.0, datetime(2026, 12, 1, 15))
    # asked for the day of the original: what stands there now, and never as known before it was received
    assert dart.fetch("financial", DAY, DAY).rows() == [tuple(row.values())]


def test_the_original_of_a_later_correction_was_known_on_its_own_day(exchange, tmp_path):
    """As the nights see it: the original first, then the correction."""
    assert row_of(opened(exchange, tmp_path, [QUARTER]).fetch("financial", DAY, DAY))["equity"] == FIGURES["equity"]


def test_what_is_no_periodic_report_of_a_stock_is_not_asked_for(exchange, tmp_path):
    never_listed = replace(QUARTER, corp_code="00999999", ticker=" ", corp_cls="E")
    another_day = replace(QUARTER, received_on=date(2026, 11, 12))
    dart = opened(exchange, tmp_path, [never_listed, another_day])
    assert dart.fetch("financial", DAY, DAY).is_empty()
    assert exchange.n_calls(ACCOUNTS) == 0
    named_otherwise = rewritten(lambda row: row | {"report_nm": "증권신고서(지분증권)"})
    exchange.fail(LIST, named_otherwise)
    serve_dart(exchange, [QUARTER], key=KEY)
    assert dart.fetch("financial", DAY, DAY).is_empty()
    assert exchange.n_calls(ACCOUNTS) == 0


def test_a_company_whose_stock_code_is_null_is_looked_up_like_one_whose_code_is_blank(exchange, tmp_path):
    dart = opened(exchange, tmp_path, [QUARTER])
    exchange.fail(LIST, rewritten(lambda row: row | {"stock_code": None}))
    assert row_of(dart.fetch("financial", DAY, DAY))["ticker"] == "005930"


def test_a_company_that_left_the_exchange_is_found_among_the_company_codes_once(exchange, tmp_path):
    gone = replace(QUARTER, ticker="001234", code_in_list=False, corp_cls="E")
    dart = opened(exchange, tmp_path, [gone])
    for _ in range(2):
        assert row_of(dart.fetch("financial", DAY, DAY))["ticker"] == "001234"
    assert exchange.n_calls(CODES) == 1


@pytest.mark.parametrize(
    ("kind", "month", "questions"),
    [
        ("사업", 12, [(2026, "11011")]),
        ("사업", 3, [(2025, "11011")]),
        ("사업", 6, [(2025, "11011")]),
        ("반기", 6, [(2026, "11012")]),
        ("반기", 9, [(2026, "11012")]),
        ("반기", 12, [(2026, "11012")]),
        ("분기", 3, [(2026, "11013"), (2025, "11014")]),
        ("분기", 9, [(2026, "11014"), (2026, "11013")]),
        ("분기", 6, [(2026, "11013"), (2025, "11014")]),
        ("분기", 12, [(2026, "11014"), (2026, "11013")]),
    ],
)
def test_a_report_is_asked_for_under_the_year_in_which_its_fiscal_year_began(kind, month, questions):
    assert Report("00000001", kind, 2026, month).questions() == questions


def test_a_fiscal_year_from_july_is_found_with_the_second_question(exchange, tmp_path):
    odd = replace(QUARTER, corp_code="00111111", ticker="001234", so_far=3, number=2)
    rows = opened(exchange, tmp_path, [QUARTER, odd]).fetch("financial", DAY, DAY)
    assert rows.select("ticker", "period_end").rows() == [("001234", odd.period_end), ("005930", QUARTER.period_end)]
    assert [call.query["reprt_code"] for call in exchange.calls if call.path == ACCOUNTS] == ["11014", "11013"]
    assert exchange.calls[-1].query["corp_code"] == "00111111", "who has answered is not asked again"


def test_figures_of_another_period_than_the_reports_are_not_taken(exchange, tmp_path):
    last_year = replace(QUARTER, period_end=date(2025, 9, 30), received_on=date(2025, 11, 14))
    dart = opened(exchange, tmp_path, [QUARTER])
    stale = [line | {"bsns_year": "2026"} for line in last_year.accounts()]
    exchange.serve(ACCOUNTS, Reply.json({"status": "000", "message": "", "list": stale}))
    assert dart.fetch("financial", DAY, DAY).is_empty()


def many(n, received_on=DAY):
    return [
        replace(QUARTER, corp_code=f"{n:08d}", ticker=f"{n:05d}0", number=n, received_on=received_on)
        for n in range(1, n + 1)
    ]


def test_a_list_of_several_pages_is_read_to_its_end_and_companies_asked_by_the_hundred(exchange, tmp_path):
    rows = opened(exchange, tmp_path, many(250)).fetch("financial", DAY, DAY)
    assert rows["ticker"].to_list() == [f"{n:05d}0" for n in range(1, 251)]
    pages = [call.query["page_no"] for call in exchange.calls if call.path == LIST]
    sizes = [len(call.query["corp_code"].split(",")) for call in exchange.calls if call.path == ACCOUNTS]
    assert (pages, sizes) == (["1", "2", "3"], [100, 100, 50])


def test_a_list_that_ends_early_is_named(exchange, tmp_path):
    dart = opened(exchange, tmp_path, many(150))
    exchange.fail(
        LIST, replaced(status("013", "조회된 데이타가 없습니다.")), when=lambda asked: asked.query["page_no"] == "2"
    )
    with pytest.raises(SourceChanged, match="dart list tells of 150 reports and gives 100"):
        dart.fetch("financial", DAY, DAY)


def test_a_year_is_asked_for_in_spans_that_the_list_allows(exchange, tmp_path):
    days = [date(2026, 2, 1), date(2026, 5, 15), date(2026, 8, 14), date(2026, 11, 13)]
    filings = [replace(many(4)[n], received_on=day) for n, day in enumerate(days)]
    rows = opened(exchange, tmp_path, filings).fetch("financial", date(2026, 1, 1), date(2026, 12, 31))
    assert rows.height == 4
    spans = [(call.query["bgn_de"], call.query["end_de"]) for call in exchange.calls if call.path == LIST]
    assert spans[0] == ("20260101", "20260331")
    assert spans[-1] == ("20261227", "20261231")
    assert len(spans) == 5


def test_a_day_without_reports_is_one_call(exchange, dart):
    assert dart.fetch("financial", date(2026, 11, 14), date(2026, 11, 15)).is_empty()
    assert dart.n_calls == exchange.n_calls() == 1


def test_a_report_without_any_figure_is_no_row(exchange, tmp_path):
    empty = replace(QUARTER, figures=dict.fromkeys(FIGURES))
    assert opened(exchange, tmp_path, [empty]).fetch("financial", DAY, DAY).is_empty()


def test_the_fake_markets_reports_come_back_as_they_are(exchange, tmp_path):
    market = small_market()
    rows = opened(exchange, tmp_path, filings_of(market)).fetch("financial", date(2026, 5, 15), date(2026, 5, 15))
    told = market.financial.filter(received_on=date(2026, 5, 15)).sort("ticker")
    for column in ("ticker", "period_end", *FIGURES):
        assert rows[column].to_list() == told[column].to_list(), column
    assert set(rows["debt_ratio"]) == {100.0}


@pytest.mark.parametrize(
    ("fault", "error", "says"),
    [
        (
            QUOTA,
            BudgetSpent,
            r"dart list.json answers status '020': 요청 제한을 초과하였습니다.\n  fix: go on tomorrow",
        ),
        (MAINTENANCE, SourceUnreachable, r"status '800': 시스템 점검.*\n  fix: try again later"),
        (replaced(status("900", "정의되지 않은 오류")), SourceUnreachable, "status '900'"),
        (
            replaced(status("010", "등록되지 않은 키")),
            CredentialRefused,
            r"status '010': 등록되지 않은 키\n  fix: compare",
        ),
        (replaced(status("011", "사용할 수 없는 키")), CredentialRefused, "status '011'"),
        (replaced(status("012", "접근할 수 없는 IP")), CredentialRefused, "status '012'"),
        (replaced(status("901", "개인정보 보유기간 만료")), CredentialRefused, "status '901'"),
        (replaced(status("100", "필드의 부적절한 값")), SourceChanged, "dart list.json answers status '100': 필드의"),
        (
            replaced(Reply.json({"list": []})),
            SourceChanged,
            r"dart list.json answers without status; there is \['list'\]",
        ),
        (
            replaced(Reply(b"", content_type="text/plain")),
            SourceChanged,
            "dart list.json answers 200, and no JSON: nothing",
        ),
        (BLOCK_PAGE, SourceBlocked, "dart has shut us out"),
        (CUT_SHORT, SourceUnreachable, "dart gave no usable answer"),
        (changed_column("report_nm", "title"), SourceChanged, "dart list answers without report_nm; there is"),
        (changed_column("stock_code", "code"), SourceChanged, "dart list answers without stock_code; there is"),
    ],
)
def test_what_is_no_list_is_named_without_the_key(exchange, dart, fault, error, says, caplog):
    exchange.fail(LIST, fault)
    with caplog.at_level(logging.DEBUG), pytest.raises(error, match=says) as raised:
        dart.fetch("financial", DAY, DAY)
    assert KEY not in str(raised.value)
    assert KEY not in caplog.text


@pytest.mark.parametrize(
    ("fault", "error", "says"),
    [
        (QUOTA, BudgetSpent, "dart fnlttMultiAcnt.json answers status '020'"),
        (
            changed_column("thstrm_amount", "amount"),
            SourceChanged,
            r"dart fnlttMultiAcnt answers without \['thstrm_amount'\]",
        ),
        (changed_column("rcept_no", "receipt"), SourceChanged, r"dart fnlttMultiAcnt answers without \['rcept_no'\]"),
        (
            rewritten(lambda row: row | {"thstrm_dt": "당기"}),
            SourceChanged,
            r"answers \['당기'\] where a period with its date",
        ),
        (
            rewritten(lambda row: row | {"rcept_no": "17"}),
            SourceChanged,
            r"answers \['17'\] where a receipt with its date",
        ),
        (
            rewritten(lambda row: row | {"thstrm_amount": "삼백"}),
            SourceChanged,
            r"answers \['삼백'.* where thstrm_amount should",
        ),
        (
            replaced(Reply.json({"status": "000", "list": {"a": 1}})),
            SourceChanged,
            "answers dict where a list of rows was",
        ),
        (replaced(Reply.json({"status": "000"})), SourceChanged, "dart fnlttMultiAcnt answers without list; there is"),
    ],
)
def test_what_are_no_accounts_is_named(exchange, dart, fault, error, says):
    exchange.fail(ACCOUNTS, fault)
    with pytest.raises(error, match=says):
        dart.fetch("financial", DAY, DAY)


@pytest.mark.parametrize("lacking", [{"thstrm_dt": ""}, {"rcept_no": "17"}])
def test_one_report_without_its_dates_is_left_out_and_the_others_come(exchange, tmp_path, lacking):
    dart = opened(exchange, tmp_path, many(2))
    exchange.fail(ACCOUNTS, rewritten(lambda row: row | (lacking if row["corp_code"] == "00000001" else {})))
    assert dart.fetch("financial", DAY, DAY)["ticker"].to_list() == ["000020"]


@pytest.mark.parametrize(
    ("reply", "error", "says"),
    [
        (status_xml("011", "사용할 수 없는 키"), CredentialRefused, "dart corpCode.xml answers status '011'"),
        (status_xml("020", "요청 제한을 초과"), BudgetSpent, "dart corpCode.xml answers status '020'"),
        (
            Reply(b"PK half an archive", content_type="application/zip"),
            SourceChanged,
            "18 bytes that are no archive of XML",
        ),
        (Reply(b"<?xml version='1.0'?><a", content_type="text/xml"), SourceChanged, "bytes that are no archive of XML"),
        (Reply(b"none", 404, "text/plain"), SourceChanged, "dart corpCode.xml answers 404 Not Found"),
    ],
)
def test_what_are_no_company_codes_is_named(exchange, tmp_path, reply, error, says):
    dart = opened(exchange, tmp_path, [replace(QUARTER, code_in_list=False)])
    exchange.serve(CODES, reply)
    with pytest.raises(error, match=says):
        dart.fetch("financial", DAY, DAY)


def test_a_key_that_is_not_set_is_said_before_anything_is_sent(exchange, tmp_path):
    dart = opened(exchange, tmp_path, [QUARTER], key="")
    assert [(need.what, "OpenDART" in need.fix) for need in dart.needs()] == [("KSTOCK_DART_KEY is not set", True)]
    with pytest.raises(CredentialRefused, match="dart: KSTOCK_DART_KEY is not set\n  fix: get a key at OpenDART"):
        dart.fetch("financial", DAY, DAY)
    assert exchange.n_calls() == 0


def test_a_key_that_is_wrong_is_refused_and_not_told(exchange, tmp_path):
    wrong = "f" * 40
    with pytest.raises(CredentialRefused, match="등록되지 않은 키입니다") as raised:
        opened(exchange, tmp_path, [QUARTER], key=wrong).fetch("financial", DAY, DAY)
    assert wrong not in str(raised.value)


def test_a_key_needs_nothing_else(dart):
    assert dart.needs() == []
