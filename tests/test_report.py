"""The report: it says what is stored, in both languages, and a browser shows it without asking anybody for anything."""

import re
import shutil
from datetime import datetime
from html.parser import HTMLParser
from string import Formatter

import duckdb
import numpy as np
import pytest

from factories import asked_json, copy_root, done, run, sentence
from kstock_batch.serving.report.charts import drift_map
from kstock_batch.serving.report.drawing import _VARIABLES
from kstock_batch.serving.report.facts import read_facts
from kstock_batch.serving.report.page import render
from kstock_batch.serving.report.words import _WORDS, LANGUAGES, words
from kstock_batch.settings import Settings

NOW = datetime(2026, 11, 25, 9, 40)
CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
EVIL = '<img src=x onerror="alert(1)">&amp;{{ 7*7 }}'


class Ids(HTMLParser):
    """Collects the ids of a page and the links inside it."""

    def __init__(self, page):
        super().__init__()
        self.ids, self.links = [], []
        self.feed(page)

    def handle_starttag(self, tag, attrs):
        facts = dict(attrs)
        if "id" in facts:
            self.ids.append(facts["id"])
        for key in ("href", "xlink:href"):
            if facts.get(key, "").startswith("#"):
                self.links.append(facts[key][1:])
        self.links += re.findall(r"url\(#([^)]+)\)", " ".join(value or "" for value in facts.values()))


@pytest.fixture(scope="module")
def facts(judged):
    return read_facts(Settings.load(judged), as_of=None, now=NOW)


def page_of(root, language="en", **options):
    args = [word for key, value in options.items() for word in (f"--{key.replace('_', '-')}", value)]
    done(root, "report", "--language", language, "--out", root / "report.html", *args)
    return (root / "report.html").read_text(encoding="utf-8")


# What it says


def test_the_highest_of_the_page_are_the_highest_that_are_published(judged):
    page = page_of(judged)
    top = asked_json(judged, "predictions", "show", "--top", "15")
    shown = re.findall(r"<td>(\w{6})</td>\n<th scope=\"row\">", page)
    assert shown[:15] == [row["ticker"] for row in top]
    first = page.split(f"<td>{shown[0]}</td>")[1].split("</tr>")[0]
    assert f"{100 * top[0]['probability']:.1f}\N{NO-BREAK SPACE}%" in first
    for name, adds in top[0]["shap_top3"]:
        assert f"{name} {adds:+.2f}" in first


def test_its_numbers_are_the_stores(judged, facts):
    cards = asked_json(judged, "sql", "--store", "FROM running_scorecard WHERE span = 'last 60' ORDER BY model_version")
    ours = next(card for card in cards if card["model_version"] == "every version")
    assert ours["n_sessions"] >= 2
    assert facts.scorecard["auc_day"] == pytest.approx(ours["auc_day"])
    n = asked_json(judged, "sql", "--store", f"SELECT count(*) AS n FROM prediction WHERE as_of = '{facts.as_of}'")
    assert facts.n_scored == n[0]["n"]
    assert len(facts.top) == len(facts.bottom) == 15
    assert facts.bottom[-1].row["rank"] == facts.n_scored


def test_the_courses_are_of_the_twenty_judged_sessions_that_end_on_each(judged, tmp_path):
    root = copy_root(judged, tmp_path / "long")
    with duckdb.connect(str(Settings(root=root).store)) as con:
        ago = (
            "SELECT s.* REPLACE (s.as_of - n.n::INTEGER AS as_of, {}) FROM {} AS s, range(1, 25) AS n(n)"
            " WHERE s.as_of = $day"
        )
        ((day,),) = con.execute("SELECT max(as_of) FROM scorecard").fetchall()
        con.execute("DELETE FROM scorecard WHERE as_of < $day", {"day": day})
        con.execute("DELETE FROM scorecard_decile WHERE as_of < $day", {"day": day})
        tens = "UPDATE scorecard_decile SET n = 10, n_hits = CASE decile WHEN 10 THEN 6 WHEN 1 THEN 1 ELSE 3 END"
        con.execute(tens)
        con.execute("UPDATE scorecard SET auc = 0.7, brier_sum = 8, base_brier_sum = 10, floor_brier_sum = 9")
        con.execute(
            f"INSERT INTO scorecard_decile {ago.format('(s.n_hits + n.n % 2)::INTEGER AS n_hits', 'scorecard_decile')}",
            {"day": day},
        )
        con.execute(f"INSERT INTO scorecard {ago.format('0.6 AS auc', 'scorecard')}", {"day": day})
    facts = read_facts(Settings.load(root), as_of=None, now=NOW)
    assert facts.rolling_skill.height == 25 - 4  # fewer than five are left out
    last = facts.rolling_skill.to_dicts()[-1]
    assert last["auc_day"] == pytest.approx((0.7 + 19 * 0.6) / 20)
    assert last["over_base_rate_pct"] == pytest.approx(20)
    assert last["over_volatility_pct"] == pytest.approx(100 / 9)
    hits = facts.rolling_decile.to_dicts()[-1]
    assert (hits["top"], hits["bottom"]) == (
        pytest.approx((6 + 9 * 6 + 10 * 7) / 200),
        pytest.approx((1 + 9 + 20) / 200),
    )
    assert hits["bottom"] < hits["everyone"] < hits["top"]
    for drawing in ("AUC within sessions over", "Share that rose in the highest", "Part of the Brier score"):
        assert f'role="img" aria-label="{drawing}' in render(facts, "en")


def test_a_sparkline_ends_on_the_session_and_is_told_to_who_does_not_see_it(judged, facts):
    pick = facts.top[0]
    close = asked_json(
        judged,
        *("sql", "--store"),
        f"SELECT close FROM feature_daily WHERE ticker = '{pick.row['ticker']}' AND as_of = '{facts.as_of}'",
    )
    assert pick.closes[-1] == pytest.approx(close[0]["close"])
    assert len(pick.closes) > 60
    said = f"from {pick.closes[0]:,.0f} to {pick.closes[-1]:,.0f} won"
    assert f'aria-label="Closes of {pick.row["name"]} over four months, {said}, adjusted"' in render(facts, "en")


def test_a_session_that_was_published_degraded_says_so_on_top(judged, facts, tmp_path):
    root = copy_root(judged, tmp_path / "degraded")
    with duckdb.connect(str(Settings(root=root).store)) as con:
        con.execute("UPDATE prediction SET degraded_why = 'half of KOSDAQ is missing'")
    assert '<p class="warning" role="alert">Published although something is missing: half of KOSDAQ' in page_of(root)


def test_an_older_session_can_be_reported(judged, facts):
    day = facts.coverage["as_of"][0]
    assert f"<h1>Predictions as-of {day}</h1>" in page_of(judged, as_of=day)


def test_before_anything_was_judged_the_page_says_that_outcomes_take_five_sessions(trained_root):
    page = page_of(trained_root)
    assert page.count("No session is judged yet: outcomes are known five sessions later.") == 4
    assert "<svg" in page


def test_a_report_of_what_is_not_scored_is_refused(judged, tmp_path):
    refused = run(judged, "report", "--as-of", "1999-01-04")
    assert (refused.exit_code, "session 1999-01-04 is none of the" in sentence(refused)) == (3, True)
    done(tmp_path, "demo", "--tickers", 40, "--sessions", 120)
    done(tmp_path, "features")
    refused = run(tmp_path, "report")
    assert (refused.exit_code, "no session is scored yet" in sentence(refused)) == (3, True)
    assert not (tmp_path / "warehouse" / "report.html").exists()


def test_a_model_that_was_pruned_leaves_a_report_without_its_card(judged, tmp_path):
    root = copy_root(judged, tmp_path / "pruned")
    for folder in (root / "models").iterdir():
        shutil.rmtree(folder) if folder.is_dir() else folder.unlink()
    assert "is no longer stored" in page_of(root)


# What it is made of


def test_what_data_say_is_no_markup(judged, tmp_path):
    root = copy_root(judged, tmp_path / "evil")
    with duckdb.connect(str(Settings(root=root).store)) as con:
        con.execute("UPDATE raw_listing SET name = $evil, sector = $evil", {"evil": EVIL})
        con.execute("UPDATE run SET status = 'failed', error = $evil WHERE command = 'score'", {"evil": EVIL})
    for language in LANGUAGES:
        page = page_of(root, language)
        assert "<img" not in page
        assert "&lt;img src=x onerror=" in page
        assert "{{ 7*7 }}" in page


def test_the_same_facts_are_the_same_bytes(facts):
    page = render(facts, "en")
    assert page == render(facts, "en")
    assert "dc:date" not in page


@pytest.mark.parametrize("language", LANGUAGES)
def test_every_link_and_part_of_a_drawing_is_there_once(facts, language):
    page = Ids(render(facts, language))
    assert len(page.ids) == len(set(page.ids))
    assert page.links
    assert set(page.links) <= set(page.ids)


@pytest.mark.parametrize("language", LANGUAGES)
def test_every_drawing_takes_the_pages_colours_and_font_and_has_a_label(facts, language):
    page = render(facts, language)
    assert not [colour for colour in _VARIABLES if colour in page]
    assert "DejaVu" not in page
    assert (
        len(re.findall(r"<svg\b", page))
        == len(re.findall(r'<svg\b[^>]* role="img" aria-label="[^"]{10,}"', page))
        >= 33
    )
    assert not re.search(r"<script|https?://(?!www\.w3\.org)|@import|<link|src=", page)


def test_no_english_word_is_left_in_a_korean_drawing(facts):
    page = render(facts, "ko")
    drawn = {re.sub("&amp;", "&", text) for text in re.findall(r">([^<]*)</text>", page)}
    english = {said[0].replace(" %", "\N{NO-BREAK SPACE}%") for said in _WORDS.values()} | {key for key in _WORDS}
    assert len(drawn) > 20
    assert not drawn & (english - {said[1] for said in _WORDS.values()})


@pytest.mark.parametrize("key", _WORDS)
def test_every_word_is_said_in_both_languages_with_the_same_values(key):
    english, korean = _WORDS[key]
    fields = [{name for _, name, _, _ in Formatter().parse(text) if name} for text in (english, korean)]
    assert fields[0] == fields[1]
    assert english.strip()
    assert korean.strip()
    assert set(words("ko")) == set(words("en"))


def test_letters_can_be_told_from_the_ground_in_light_dark_and_on_paper(facts):
    """WCAG 2: 4.5 for text, 3 for what is drawn."""
    style = render(facts, "en").split("</style>")[0]
    palettes = [
        dict(re.findall(r"--(\w+): (#\w+)", block)) for block in re.findall(r":root \{(.*?)\}", style, re.DOTALL)
    ]
    assert len(palettes) == 3
    for palette in palettes:
        for name in ("ink", "muted", "bad", "first"):
            assert contrast(palette[name], palette["ground"]) >= 4.5, (name, palette)
        for name in ("second", "third", "fourth", "good"):
            assert contrast(palette[name], palette["ground"]) >= 3, (name, palette)


def contrast(one, other):
    def luminance(colour):
        digits = colour.lstrip("#")
        digits = digits if len(digits) == 6 else "".join(2 * digit for digit in digits)
        parts = (int(digits[at : at + 2], 16) / 255 for at in (0, 2, 4))
        red, green, blue = (part / 12.92 if part <= 0.04045 else ((part + 0.055) / 1.055) ** 2.4 for part in parts)
        return 0.2126 * red + 0.7152 * green + 0.0722 * blue

    light, dark = sorted((luminance(one), luminance(other)), reverse=True)
    return (light + 0.05) / (dark + 0.05)


def test_a_feature_beyond_its_limit_is_crossed_out_and_one_of_which_nothing_can_be_said_is_left_blank():
    days = [datetime(2026, 11, day).date() for day in (23, 24, 25)]
    quiet = drift_map(["rsi", "roe"], days, np.array([[0.1, 0.5, 1.0], [np.nan, 0.0, 0.2]]), "a drawing")
    loud = drift_map(["rsi", "roe"], days, np.array([[0.1, 0.5, 1.1], [np.nan, 0.0, 0.2]]), "a drawing")
    assert ("var(--bad)" in quiet, "var(--bad)" in loud) == (False, True)
    assert quiet.count("FillBetweenPolyCollection") == 5
    assert ">11-23</text>" in quiet


# In a browser


@pytest.fixture(scope="module")
def browser():
    if CHROMIUM is None:
        pytest.skip("no Chromium is installed")
    playwright = pytest.importorskip("playwright.sync_api")
    with playwright.sync_playwright() as running:
        chromium = running.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])
        yield chromium
        chromium.close()


@pytest.fixture
def shown(browser, facts, tmp_path):
    """Return how to open the report: (page, what it said and asked for)."""

    def opened_page(language="en", **how):
        file = tmp_path / f"{language}.html"
        file.write_text(render(facts, language), encoding="utf-8")
        page, noticed = browser.new_page(**how), []
        page.on("console", lambda message: noticed.append(message.text))
        page.on("pageerror", lambda error: noticed.append(str(error)))
        page.on("request", lambda request: noticed.append(request.url))
        page.goto(file.as_uri())
        return page, [said for said in noticed if said != file.as_uri()]

    return opened_page


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("language", LANGUAGES)
def test_a_browser_shows_it_and_asks_nobody(shown, language, scheme):
    page, noticed = shown(language, color_scheme=scheme)
    assert noticed == []
    assert page.locator("svg").count() >= 33
    for drawing in page.locator("figure > svg").all():
        box = drawing.bounding_box()
        assert box["width"] > 250
        assert box["height"] > 100
    ground = page.evaluate("getComputedStyle(document.body).backgroundColor")
    assert (ground == "rgb(255, 255, 255)") == (scheme == "light")


@pytest.mark.parametrize("width", [360, 768, 1600])
def test_it_is_never_wider_than_the_window(shown, width):
    page, _ = shown("ko", viewport={"width": width, "height": 800})
    assert page.evaluate("document.documentElement.scrollWidth") <= width


def test_a_keyboard_reaches_everything(shown):
    page, _ = shown()
    page.keyboard.press("Tab")
    assert page.evaluate("document.activeElement.className") == "skip"
    page.keyboard.press("Enter")
    assert page.evaluate("location.hash") == "#top"
    assert page.evaluate("document.querySelector('#top').getBoundingClientRect().top") < 5
    reached = set()
    for _ in range(60):
        page.keyboard.press("Tab")
        reached.add(page.evaluate("document.activeElement.tagName + (document.activeElement.textContent || '').trim()"))
    assert "SUMMARYThe numbers" in reached
    summary = page.locator("summary").first
    summary.focus()
    page.keyboard.press("Enter")
    assert page.locator("details[open]").count() == 1


def test_a_screen_reader_is_told_the_sections_and_the_drawings(shown):
    page, _ = shown()
    said = page.locator("body").aria_snapshot()
    for wanted in ('heading "Highest tonight"', 'region "Highest tonight"', 'columnheader "Probability"', "img"):
        assert wanted in said
    assert page.get_by_role("navigation", name="Contents").count() == 1
    assert page.get_by_role("img", name=re.compile("^What each member says")).count() == 1


def test_it_prints_on_white_paper_without_what_only_a_screen_needs(shown):
    page, _ = shown(color_scheme="dark")
    page.emulate_media(media="print")
    assert not page.locator("nav").is_visible()
    assert not page.locator("details").first.is_visible()
    paper = page.pdf(format="A4")
    assert paper.startswith(b"%PDF")
    assert 2 <= len(re.findall(rb"/Type\s*/Page\b", paper)) <= 8
