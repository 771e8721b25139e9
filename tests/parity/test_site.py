"""The documentation site says what the code has: names, commands, figures, links. `make docs` builds and checks the pages."""

from __future__ import annotations

import ast
import re
import sys
from pathlib import Path

import pytest

from helpers.paths import ROOT
from helpers.public_names import public_names

sys.path.insert(0, str(ROOT / "docs"))

from generator import api, dictionary, formulas, gallery, links, names, site_check
from generator.commands import command_page

BLOCK = re.compile(r"```python\n(.*?)```", re.DOTALL)


def test_every_public_name_has_its_entry_on_a_page() -> None:
    pages, text = names.pages(), api.api_pages()
    things = {f"{thing.__module__}.{thing.__qualname__}": path for path, thing in public_names().items()}
    entries = {name.origin for room in names.rooms() for name in room.names if name.kind in ("function", "class")}
    assert len(things) > 370
    # a protocol for type checkers and an annotation at run time
    assert entries == {*things, "neva_tl.models.types.Model"}
    for origin, path in things.items():
        assert f"::: {origin}\n" in text[pages[origin]], path
        assert f"{origin})" in text["reference/index.md"], path


def test_constants_and_rooms_have_a_place_too() -> None:
    text = api.api_pages()
    assert "## nv.VALUES" in text["reference/constants.md"]
    assert "## nv.plots.FIGURES" in text["reference/rooms/plots.md"]
    assert "`nv.baselines` and `nv.methods`" in text["reference/rooms/methods.md"]


def test_every_page_of_the_reference_is_in_the_navigation() -> None:
    def listed(item: object) -> set[str]:
        parts = item.values() if isinstance(item, dict) else item if isinstance(item, list) else ()
        return {item} if isinstance(item, str) else {path for part in parts for path in listed(part)}

    assert listed(api.api_nav()) == set(api.api_pages())


def test_every_command_is_on_the_page_of_commands() -> None:
    from neva_tl.cli.main import app

    page = command_page()
    commands = [command.name or command.callback.__name__ for command in app.registered_commands if command.callback]
    assert len(commands) > 15
    for name in commands:
        assert f"### `neva-tl {name.replace('_', '-')}`" in page, name


def test_every_table_is_on_the_page_of_tables() -> None:
    pages = dictionary.dictionary_pages()
    tables = dictionary.dictionary.tables()
    assert all(f"## {name}\n" in pages["reference/tables.md"] for name in tables)
    assert (
        "| `gain_lo` | score |" in pages["reference/tables.md"]
        and "neva-ledger.jsonl" in pages["reference/run_files.md"]
    )


def test_the_gallery_has_every_figure_with_its_code() -> None:
    page = gallery.gallery_page()
    assert len(gallery.scripts()) > 10
    for name in gallery.scripts():
        assert f'"figures/{name}.py"' in page, name
    from neva_tl.plots import FIGURES

    read = gallery.registered()
    assert set(read) == set(FIGURES)
    assert {name: spec.table for name, spec in FIGURES.items()} == {name: entry[0] for name, entry in read.items()}


def pages_by_hand() -> list[Path]:
    docs = [path for path in (ROOT / "docs").rglob("*.md") if "generator" not in path.parts]
    return [*docs, *(ROOT / name for name in links.PAGES)]


def test_every_link_of_a_page_leads_to_a_file() -> None:
    """Anchors, and links between the made pages, are checked by `make docs`."""
    made = {
        "gallery.md",
        "reference/index.md",
        "reference/commands.md",
        *dictionary.dictionary_pages(),
        *api.api_pages(),
    }
    count = 0
    for page in pages_by_hand():
        folder = page.parent.relative_to(ROOT).as_posix()
        for target in links.targets(page.read_text(encoding="utf-8")):
            path, _ = links.normal(folder, target)
            inner = links.page_of(path)
            known = (ROOT / path).exists() or inner in made or (inner or "").startswith("tutorials/")
            assert known, f"{page.relative_to(ROOT)}: {target}"
            count += 1
    assert count > 100


def test_the_start_page_shows_the_readme_s_code() -> None:
    readme, start = ((ROOT / name).read_text(encoding="utf-8") for name in ("README.md", "docs/start.md"))
    code = BLOCK.findall(start)
    assert code and code[0] in BLOCK.findall(readme)


def test_code_of_the_guides_is_python() -> None:
    for page in [ROOT / "docs" / "faq.md", *(ROOT / "docs" / "guides").glob("*.md")]:
        for block in BLOCK.findall(page.read_text(encoding="utf-8")):
            ast.parse(block)


@pytest.mark.parametrize("tex", [r"\lvert g\rvert\ge\tfrac12", r"\frac1{n}\sum_k x_k", r"\text{mean score}~j"])
def test_a_formula_becomes_a_picture(tex: str) -> None:
    page = formulas.draw(f'<span class="arithmatex">\\({tex}\\)</span>')
    assert page.startswith("<svg") and "currentColor" in page and 'role="img"' in page


def test_a_formula_that_cannot_be_drawn_is_named() -> None:
    with pytest.raises(ValueError, match="nosuch"):
        formulas.draw(r'<span class="arithmatex">\(\nosuch{x}\)</span>')


def test_dead_links_and_fetched_files_are_found(tmp_path: Path) -> None:
    (tmp_path / "a.html").write_text('<h1 id="top">A</h1><a href="b.html#in">b</a><a href="https://x.org">x</a>')
    (tmp_path / "b.html").write_text('<h1 id="in">B</h1><a href="a.html">a</a>')
    assert site_check.problems(tmp_path) == []
    (tmp_path / "b.html").write_text(
        '<a href="c.html">c</a><a href="a.html#no">a</a><script src="https://cdn.org/x.js"></script><img src="p.png">'
    )
    (tmp_path / "s.css").write_text("@import url(https://fonts.org/f.css);")
    lines = "\n".join(site_check.problems(tmp_path))
    for words in (
        "no file for the link c.html",
        "no anchor for the link a.html#no",
        "fetches https://cdn.org",
        "p.png",
    ):
        assert words in lines
    assert "s.css: fetches" in lines and "b.html#in" in lines
