"""The page: facts, words and drawings put into one HTML file that needs nothing else."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import polars as pl
from jinja2 import Environment, PackageLoader, StrictUndefined

from kstock_batch import __version__
from kstock_batch.serving.report import charts
from kstock_batch.serving.report.facts import Pick, ReportFacts
from kstock_batch.serving.report.words import words

_MEMBERS = ("lgbm", "xgb", "lstm", "blend", "volatility", "linear")


@dataclass(frozen=True)
class Section:
    """A part of the page with one drawing.

    Attributes
    ----------
    key : names it in links, and its words
    says : a sentence below the title
    svg : the drawing; None = there is nothing to draw, and ``says`` says why
    numbers : what is drawn, as rows, for a person who does not see it
    """

    key: str
    title: str
    says: str
    svg: str | None = None
    numbers: tuple[Mapping[str, Any], ...] = ()


def render(facts: ReportFacts, language: str) -> str:
    """Return the report as HTML: no request leaves it, no script runs in it."""
    said = words(language)
    # Everything that comes from data is escaped; the drawings are ours and are marked as such in the template.
    page = Environment(
        loader=PackageLoader("kstock_batch.serving.report", "."),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    page.filters |= {"percent": _percent, "number": _number, "cell": _cell}
    return page.get_template("report.html.j2").render(
        language=language,
        said=said,
        facts=facts,
        lead=said["lead"].format(
            n_scored=f"{facts.n_scored:,}",
            n_known=f"{facts.n_known:,}",
            base_rate=_percent(facts.summary["base_rate"]),
            mean=_percent(facts.summary["mean_probability"]),
        ),
        picks=[("top", _picked("top", facts.top, said)), ("bottom", _picked("bottom", facts.bottom, said))],
        sections=[make(facts, said) for make in _SECTIONS],
        members=_member_rows(facts),
        card_says=_card_says(facts, said),
        made=said["made"].format(made_at=f"{facts.made_at:%Y-%m-%d %H:%M}", version=__version__),
    )


def _picked(key: str, picks: tuple[Pick, ...], said: Mapping[str, str]) -> list[tuple[Pick, str | None]]:
    return [(pick, _sparkline(f"{key}{number}", pick, said)) for number, pick in enumerate(picks)]


def _sparkline(name: str, pick: Pick, said: Mapping[str, str]) -> str | None:
    if len(pick.closes) < 2:
        return None
    first, last = (f"{close:,.0f}" for close in (pick.closes[0], pick.closes[-1]))
    return charts.sparkline(name, pick.closes, said["spark"].format(name=pick.row["name"], first=first, last=last))


def _agreement(facts: ReportFacts, said: Mapping[str, str]) -> Section:
    svg = charts.agreement(facts.agreement, said["agreement_says"], said)
    return _section("agreement", said, svg=svg, rows=facts.agreement)


def _reliability(facts: ReportFacts, said: Mapping[str, str]) -> Section:
    if facts.scorecard is None:
        return _nothing("reliability", said, "nothing_judged")
    promised = [(point["forecast"], point["frequency"]) for point in (facts.card or {}).get("reliability", ())]
    says = said["reliability_says"].format(first=facts.scorecard["first_session"], last=facts.scorecard["last_session"])
    rows = facts.deciles.select("decile", "n", "forecast", "hit_rate")
    return _section("reliability", said, says, charts.reliability(rows, promised, says, said), rows)


def _deciles(facts: ReportFacts, said: Mapping[str, str]) -> Section:
    rows = facts.rolling_decile
    if rows.height < 2:
        return _nothing("deciles", said, "nothing_judged")
    return _section("deciles", said, svg=charts.decile_hits(rows, said["deciles_says"], said), rows=rows)


def _ranking(facts: ReportFacts, said: Mapping[str, str]) -> Section:
    rows = facts.rolling_skill
    if rows.height < 2:
        return _nothing("ranking", said, "nothing_judged")
    promised = facts.card["metrics"]["blend"]["auc_day"] if facts.card else None
    svg = charts.ranking(rows, promised, said["ranking_says"], said)
    return _section("ranking", said, svg=svg, rows=rows.select("as_of", "auc_day", "n_sessions"))


def _skill(facts: ReportFacts, said: Mapping[str, str]) -> Section:
    rows = facts.rolling_skill
    if rows.height < 2:
        return _nothing("skill", said, "nothing_judged")
    rows = rows.select("as_of", "over_base_rate_pct", "over_volatility_pct")
    return _section("skill", said, svg=charts.skill(rows, said["skill_says"], said), rows=rows)


def _drift(facts: ReportFacts, said: Mapping[str, str]) -> Section:
    verdict = said["verdict"].format(sentence=facts.verdict) if facts.verdict else ""
    if facts.drift is None:
        return Section("drift", said["drift"], f"{said['too_few']} {verdict}".strip())
    found = facts.drift
    svg = charts.drift_map(found.features, found.sessions, found.share, said["drift_says"])
    rows = pl.DataFrame({"feature": found.features} | {str(d): found.share[:, n] for n, d in enumerate(found.sessions)})
    return _section("drift", said, f"{said['drift_says']} {verdict}".strip(), svg, rows)


def _coverage(facts: ReportFacts, said: Mapping[str, str]) -> Section:
    rows = facts.coverage
    hours = rows["hours_after_cutoff"][-1]
    told = "–" if hours is None else said["hours"].format(n=f"{hours:,.1f}")
    says = said["coverage_says"].format(hours=told)
    if rows.height < 2:
        return Section("coverage", said["coverage"], says)
    return _section("coverage", said, says, charts.coverage(rows, says, said), rows)


def _training(facts: ReportFacts, said: Mapping[str, str]) -> Section:
    lstm = (facts.card or {}).get("members", {}).get("lstm", {}).get("card", {})
    history = lstm.get("history", [])
    if not history:
        return Section("lstm_training", said["lstm_training"], "–")
    says = said["lstm_training_says"].format(stopped_by=lstm.get("stopped_by", "–"))
    rows = pl.DataFrame(history).with_row_index("pass", offset=1)
    return _section("lstm_training", said, says, charts.training(history, says, said), rows)


def _run_times(facts: ReportFacts, said: Mapping[str, str]) -> Section:
    if facts.runs.is_empty():
        return Section("run_times", said["run_times"], "–")
    says = said["run_times_says"].format(seconds=f"{facts.runs['seconds'][-1]:.1f}")
    svg = charts.run_times(facts.runs, says, said)
    return Section("run_times", said["run_times"], says, svg, facts.stages)


_SECTIONS: tuple[Callable[[ReportFacts, Mapping[str, str]], Section], ...] = (
    _reliability,
    _agreement,
    _deciles,
    _ranking,
    _skill,
    _coverage,
    _training,
    _run_times,
    _drift,
)


def _section(
    key: str, said: Mapping[str, str], says: str | None = None, svg: str | None = None, rows: pl.DataFrame | None = None
) -> Section:
    numbers = tuple(rows.to_dicts()) if rows is not None else ()
    return Section(key, said[key], says or said[f"{key}_says"], svg, numbers)


def _nothing(key: str, said: Mapping[str, str], why: str) -> Section:
    return Section(key, said[key], said[why])


def _member_rows(facts: ReportFacts) -> list[dict[str, Any]]:
    if facts.card is None:
        return []
    metrics, weights = facts.card["metrics"], facts.card["weights"]
    wanted = ("auc_day", "auc_day_vol", "log_loss", "brier_skill_pct", "brier_skill_vol_pct", "ece_pct", "lift")
    return [
        {"member": name, "weight": weights.get(name), **{key: metrics[name].get(key) for key in wanted}}
        for name in _MEMBERS
        if name in metrics
    ]


def _card_says(facts: ReportFacts, said: Mapping[str, str]) -> str:
    if facts.card is None:
        return said["card_gone"].format(version=facts.summary["model_version"])
    trained, judged = facts.card["training"], facts.card["judged"]
    return said["card_says"].format(
        version=facts.card["version"],
        n_rows=f"{trained['n_rows']:,}",
        first=trained["first_session"],
        last=trained["last_session"],
        judged_first=judged["first_session"],
        judged_last=judged["last_session"],
    )


def _percent(value: float | None) -> str:
    return "–" if value is None else f"{100 * value:.1f}\N{NO-BREAK SPACE}%"


def _number(value: float | None, decimals: int = 2) -> str:
    return "–" if value is None else f"{value:,.{decimals}f}"


def _cell(value: object) -> str:
    """Return a number of a table as it is read: not more digits than it has to say."""
    if value is None or (isinstance(value, float) and value != value):
        return "–"
    if isinstance(value, float):
        return f"{value:,.4f}" if abs(value) < 10 else f"{value:,.1f}"
    if isinstance(value, int) and not isinstance(value, bool):
        return f"{value:,}"
    return str(value)
