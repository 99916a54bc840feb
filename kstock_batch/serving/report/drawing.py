"""Drawings: matplotlib figures as SVG that takes its colours and its font from the page it stands in.

A figure is drawn in stand-in colours which become variables of the page's style sheet, so that one drawing
serves light, dark and paper. Words are drawn in English and replaced after: matplotlib's own fonts hold no Korean.
"""

import html
import io
import re
from collections.abc import Callable, Mapping
from typing import Any

import matplotlib as mpl
from matplotlib.axes import Axes
from matplotlib.figure import Figure

# What is drawn in the first becomes the second.
INK, MUTED, GRID, GROUND = "#010203", "#010204", "#010205", "#010206"
FIRST, SECOND, THIRD, FOURTH = "#010207", "#010208", "#010209", "#01020a"
GOOD, BAD = "#01020b", "#01020c"
_VARIABLES = {
    INK: "--ink",
    MUTED: "--muted",
    GRID: "--grid",
    GROUND: "--ground",
    FIRST: "--first",
    SECOND: "--second",
    THIRD: "--third",
    FOURTH: "--fourth",
    GOOD: "--good",
    BAD: "--bad",
}
_STYLE: dict[Any, Any] = {
    "svg.fonttype": "none",
    "font.size": 9,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.edgecolor": MUTED,
    "axes.labelcolor": INK,
    "axes.grid": True,
    "axes.axisbelow": True,
    "grid.color": GRID,
    "grid.linewidth": 0.6,
    "xtick.color": MUTED,
    "ytick.color": MUTED,
    "xtick.labelcolor": INK,
    "ytick.labelcolor": INK,
    "text.color": INK,
    "legend.frameon": False,
    "legend.fontsize": 8,
    "lines.linewidth": 1.6,
    "figure.facecolor": "none",
    "axes.facecolor": "none",
    "savefig.facecolor": "none",
}
_FONT = re.compile(r"font-family: [^;\"]+|(font: (?:[\w.]+ )*[\d.]+px) [^;\"]+")

Words = Mapping[str, str]


def drawn(
    name: str,
    draw: Callable[[Axes], None],
    *,
    label: str,
    words: Words,
    size: tuple[float, float] = (6.4, 3.0),
    is_bare: bool = False,
) -> str:
    """Return the SVG of one chart.

    Parameters
    ----------
    name : tells its parts from those of other charts of the page
    draw : draws into the axes, in this module's colours
    label : what a person who does not see it is told
    words : English text in the drawing = what stands there instead
    size : inches; on the page it is as wide as there is room
    is_bare : no axes at all, as of a sparkline
    """
    with mpl.rc_context({**_STYLE, "svg.hashsalt": name}):
        figure = Figure(figsize=size, layout=None if is_bare else "constrained")
        axes = figure.add_axes((0, 0.05, 1, 0.9)) if is_bare else figure.add_subplot()
        if is_bare:
            axes.set_axis_off()
        draw(axes)
        file = io.StringIO()
        figure.savefig(file, format="svg")
    return _for_page(file.getvalue(), name, label, words)


def _for_page(svg: str, name: str, label: str, words: Words) -> str:
    """Return the drawing as an element of a page."""
    svg = svg[svg.index("<svg") :].strip()
    svg = re.sub(r"<metadata>.*?</metadata>", "", svg, flags=re.DOTALL)
    for colour, variable in _VARIABLES.items():
        svg = svg.replace(colour, f"var({variable})")
    svg = _FONT.sub(lambda found: f"{found[1]} var(--font)" if found[1] else "font-family: var(--font)", svg)
    # Two drawings of one page must not take each other's parts.
    svg = re.sub(r'(\bid="|url\(#|xlink:href="#)', rf"\g<1>{name}-", svg)
    for word, said in words.items():
        svg = svg.replace(f">{html.escape(word, quote=False)}</text>", f">{html.escape(said, quote=False)}</text>")
    head, rest = svg.split(">", 1)
    head = re.sub(r'\s(?:width|height)="[^"]*"', "", head)
    named = html.escape(label)
    return f'{head} role="img" aria-label="{named}"><title>{named}</title>{rest}'
