"""The documentation as a site: every page has its place, and it is built without a dead link or a stranger's server."""

import importlib.util
import re
from collections import Counter
from html.parser import HTMLParser
from pathlib import Path
from urllib.parse import unquote

import pytest
import yaml

REPOSITORY = Path(__file__).parents[1]
SITE = REPOSITORY / "docs" / "site"
# What a browser fetches by itself; a link in the text is a reader's own choice.
FETCHED = ("script", "img", "iframe", "link", "source", "object", "embed")


def builder():
    spec = importlib.util.spec_from_file_location("docs_site_build", SITE / "build.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


BUILD = builder()


def places(navigation):
    """Yield the pages of a navigation, in their order."""
    for entry in navigation:
        if isinstance(entry, str):
            yield entry
        else:
            for below in entry.values():
                yield from places([below] if isinstance(below, str) else below)


def navigation():
    return list(places(yaml.load((SITE / "mkdocs.yml").read_text(encoding="utf-8"), yaml.BaseLoader)["nav"]))


class Page(HTMLParser):
    """What a built page has: ids, links, and what it makes a browser fetch."""

    def __init__(self, text):
        super().__init__()
        self.ids, self.links, self.fetched = [], [], []
        self.feed(text)

    def handle_starttag(self, tag, attrs):
        told = dict(attrs)
        self.ids += [told["id"]] if "id" in told else []
        if tag == "a":
            self.links += [told["href"]] if told.get("href") else []
        elif tag in FETCHED:
            self.fetched += [told[name] for name in ("src", "href", "data") if told.get(name)]


@pytest.fixture(scope="module")
def site(tmp_path_factory):
    """The folder of the built site."""
    for name in ("zensical", "mmdr"):
        pytest.importorskip(name, reason=f"{name} is not installed: run `make docs`, or pip install '.[docs]'")
    return BUILD.built(tmp_path_factory.mktemp("docs") / "docs")


@pytest.fixture(scope="module")
def pages(site):
    """What each built page has, by its path in the site."""
    return {
        str(file.relative_to(site)): Page(file.read_text(encoding="utf-8"))
        for file in site.rglob("*.html")
        if file.name != "404.html"
    }


def test_the_navigation_has_every_page_once():
    pages = [str(page.relative_to(REPOSITORY)) for page in BUILD.shown_pages(REPOSITORY)]
    assert {"README.md", "docs/tutorial.md"} <= set(pages)
    assert Counter(navigation()) == Counter([*pages, "LICENSE.md"])


def test_the_site_has_every_page(pages):
    named = {name.removesuffix(".md") + ".html" for name in navigation()}
    assert set(pages) == named - {"README.html"} | {"index.html"}


def test_links_of_the_site_lead_to_a_file_and_a_place_in_it(site, pages):
    followed = 0
    for name, page in pages.items():
        for link in page.links:
            if re.match(r"[a-z]+:", link):
                continue
            file, _, place = unquote(link).partition("#")
            aim = (site / name).parent / file if file else site / name
            aim = aim / "index.html" if aim.is_dir() else aim
            assert aim.is_file(), f"{name}: {link}"
            if place and aim.suffix == ".html":
                assert place in pages[str(aim.resolve().relative_to(site.resolve()))].ids, f"{name}: {link}"
            followed += 1
    assert followed > 500


def test_ids_are_unique_in_a_page(pages):
    for name, page in pages.items():
        assert [one for one, count in Counter(page.ids).items() if count > 1] == [], name


def test_a_page_makes_the_browser_ask_nobody_else(site, pages):
    for name, page in pages.items():
        assert [one for one in page.fetched if re.match(r"(?:[a-z]+:)?//", one)] == [], name
    for sheet in site.rglob("*.css"):
        assert re.findall(r"(?:url\(|@import )[\"']?(?:https?:)?//", sheet.read_text(encoding="utf-8")) == [], sheet


def test_every_diagram_is_drawn(site):
    for page in BUILD.shown_pages(REPOSITORY):
        blocks = page.read_text(encoding="utf-8").count("```mermaid")
        built = site / ("index.html" if page.name == "README.md" else page.relative_to(REPOSITORY).with_suffix(".html"))
        text = built.read_text(encoding="utf-8")
        assert text.count('<figure class="diagram"><svg') == blocks, page.name
        assert 'class="mermaid"' not in text, page.name
