"""Writing of the files that a paper takes from a run folder."""

from __future__ import annotations

from pathlib import Path

from neva_tl.core.files import atomic_write
from neva_tl.plots.files import run_theory
from neva_tl.plots.paper import FOLDER
from neva_tl.plots.value_names import using_theory
from neva_tl.study.paper.captions import figures
from neva_tl.study.paper.methods_text import paragraph
from neva_tl.study.paper.references import bibliography
from neva_tl.study.paper.sources import read_sources
from neva_tl.study.paper.tables import TABLES


def write_paper(run: str | Path) -> list[Path]:
    """Write LaTeX tables, captions, a paragraph on methods and BibTeX of a finished run; nothing is measured.

    `RUN/paper/tables.tex` has the main results with intervals (booktabs), `captions.tex` a figure environment with a filled-in
    caption for each figure whose table exists (`make figures RUN=...` draws the PDFs into the same folder), `methods.tex` a
    paragraph from the manifest, and `references.bib` the entries that it cites. All text of the run is escaped.

    Args:
        run: The run folder.

    Returns:
        The paths of the four files.

    Raises:
        InputError: The folder is not that of a finished run, or a file was changed since it was written.

    Example:
        >>> [path.name for path in nv.study.write_paper(run)]
        ['tables.tex', 'captions.tex', 'methods.tex', 'references.bib']
    """
    sources = read_sources(run)
    with using_theory(run_theory(sources.run)):
        contents = {
            "tables.tex": "\n".join(text for build in TABLES if (text := build(sources))),
            "captions.tex": figures(sources),
            "methods.tex": paragraph(sources),
            "references.bib": bibliography(sources),
        }
    needs = {"tables.tex": " Needs \\usepackage{booktabs}.", "captions.tex": " Needs \\usepackage{graphicx}."}
    paths = []
    for name, content in contents.items():
        path = sources.run / FOLDER / name
        path.parent.mkdir(parents=True, exist_ok=True)
        with atomic_write(path) as file:
            file.write_text(f"% Written by neva_tl from a run's tables.{needs.get(name, '')}\n\n{content}", "utf-8")
        paths.append(path)
    return paths
