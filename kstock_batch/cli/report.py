"""The command that writes a page a person opens in a browser."""

from datetime import date
from pathlib import Path

import click

from kstock_batch import console
from kstock_batch.cli.language import chosen_language
from kstock_batch.cli.options import SESSION_DATE, as_json, utc_now
from kstock_batch.settings import Settings


@click.command()
@click.option("--as-of", type=SESSION_DATE, help="Session to report.  [default: the newest that is scored]")
@click.option("--out", type=click.Path(dir_okay=False, path_type=Path), help="File.  [default: warehouse/report.html]")
@click.option("--language", type=click.Choice(("en", "ko")), help="English or Korean.  [default: the setting]")
@as_json
@click.pass_obj
def report(settings: Settings, as_of: date | None, out: Path | None, language: str | None, as_json: bool) -> None:
    """Write one HTML file: tonight's highest and lowest with reasons, what came true, drift, incidents, model card.

    It needs no network and holds no script. It reads the store and writes nothing but the file.

    \b
    Examples:
      kstock-batch report
      kstock-batch report --language ko --out report.html
    """
    from kstock_batch.files import disk_full_is_named, write_atomically
    from kstock_batch.serving.report.facts import read_facts
    from kstock_batch.serving.report.page import render

    facts = read_facts(settings, as_of=as_of, now=utc_now())
    page = render(facts, language or chosen_language(settings))
    path = (out or settings.warehouse / "report.html").resolve()
    with disk_full_is_named(path):
        write_atomically(path, page.encode())
    if as_json:
        console.document({"as_of": facts.as_of, "file": path, "bytes": len(page.encode())})
        return
    console.result(f"report as-of {facts.as_of} ({len(page.encode()) / 1e6:.1f} MB): {path}")
