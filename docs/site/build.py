"""Builds the documentation site: `make docs`, or `python docs/site/build.py [FOLDER]`.

The pages are written for a code host and stay as they are. The site is made from copies in the same places, so
that links between docs/ and the root hold in both; Mermaid's diagrams are drawn into them, so that no script has to be
fetched to see one.
"""

import re
import shutil
import subprocess
import sys
from pathlib import Path

REPOSITORY = Path(__file__).parents[2]
_HERE = Path(__file__).parent
_DIAGRAM = re.compile(r"```mermaid\n(.*?)```", re.DOTALL)
# The plain look, whose colours site.css replaces by those of the page, light or dark
_LOOK = '%%{init: {"theme": "default", "look": "classic", "fontFamily": "sans-serif"}}%%\n'


def built(folder: Path, repository: Path = REPOSITORY) -> Path:
    """Return the folder of the finished site; ``folder`` is made anew and holds everything that was needed for it.

    Raises SystemExit with what the builder said if a link or an anchor leads nowhere.
    """
    shutil.rmtree(folder, ignore_errors=True)
    stage(repository, folder / "pages")
    shutil.copy(_HERE / "mkdocs.yml", folder)
    done = subprocess.run(
        [sys.executable, "-m", "zensical", "build", "--strict"], cwd=folder, capture_output=True, text=True, check=False
    )
    if done.returncode:
        raise SystemExit(f"the site was not built:\n{_without_colours(done.stdout + done.stderr)}")
    return folder / "site"


def stage(repository: Path, pages: Path) -> None:
    """Copy what the site shows to ``pages``, each file where it is in ``repository``, with its diagrams drawn."""
    for page in shown_pages(repository):
        copy = pages / page.relative_to(repository)
        copy.parent.mkdir(parents=True, exist_ok=True)
        copy.write_text(with_diagrams(page.read_text(encoding="utf-8")), encoding="utf-8")
    licence = (repository / "LICENSE").read_text(encoding="utf-8")
    (pages / "LICENSE.md").write_text(f"# Licence\n\n{licence}", encoding="utf-8")
    shutil.copytree(repository / "docs" / "examples", pages / "docs" / "examples")
    (pages / "docs" / "site").mkdir()
    shutil.copy(_HERE / "site.css", pages / "docs" / "site")


def shown_pages(repository: Path) -> list[Path]:
    """Return the Markdown files that become pages: those of the root and those of docs/."""
    return sorted(repository.glob("*.md")) + sorted((repository / "docs").glob("*.md"))


def with_diagrams(text: str) -> str:
    """Return the page with each Mermaid block replaced by what it draws."""
    numbers = iter(range(1, 100))
    return _DIAGRAM.sub(lambda found: _drawn(found[1], f"diagram-{next(numbers)}"), text)


def _drawn(source: str, name: str) -> str:
    import mmdr

    svg = mmdr.render(_LOOK + source).svg()
    svg = re.sub(r"<style>.*?</style>", "", svg, flags=re.DOTALL)
    svg = re.sub(r" data-[a-z-]+=\"[^\"]*\"", "", svg)
    # Ids are unique in a page, and Markdown leaves alone what has no empty line in it.
    svg = re.sub(r"\bmerman(?=[_\-\"])", name, svg)
    return f'<figure class="diagram">{" ".join(svg.split())}</figure>'


def _without_colours(text: str) -> str:
    return re.sub(r"\x1b\[[0-9;]*m", "", text)


def main() -> None:
    """Build the site into build/docs, or into the folder that is named."""
    try:
        import mmdr  # noqa: F401
        import zensical  # noqa: F401
    except ImportError as missing:
        raise SystemExit(f"{missing.name} is not installed: run `make docs`, or pip install '.[docs]'") from None
    folder = Path(sys.argv[1]) if sys.argv[1:] else REPOSITORY / "build" / "docs"
    print(f"{built(folder) / 'index.html'}")


if __name__ == "__main__":
    main()
