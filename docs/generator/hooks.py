"""Hooks of MkDocs (`mkdocs.yml`): pages from the code, links, formulas, and the check of the built site."""

from __future__ import annotations

import re
import sys
from pathlib import Path
from typing import Any

from mkdocs.exceptions import PluginError
from mkdocs.plugins import CombinedEvent, event_priority
from mkdocs.structure.files import File, Files

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from generator import formulas, gallery, links, site_check
from generator.api import api_nav, api_pages
from generator.commands import command_page
from generator.dictionary import dictionary_pages
from generator.names import ROOT

#: Pages made for this build: path -> Markdown.
_pages: dict[str, str] = {}
#: Scripts of a notebook page that fetch MathJax and Mermaid.
FETCHING = re.compile(r"<script[^>]*>(?:(?!</script>).)*(?:mermaid|MathJax)(?:(?!</script>).)*</script>", re.DOTALL)
#: Weight of a page in the search by the beginning of its path: answers before tables of numbers and history.
WEIGHTS = {
    "faq": 2,
    "start": 2,
    "guides/": 2,
    "results/": 0.5,
    "architectures": 0.2,
    "benchmarks": 0.2,
    "changelog": 0.2,
}
#: A picture from another host, such as a badge.
REMOTE = re.compile(r'<img(?=[^>]*\bsrc="https?:)[^>]*>')
EMPTY = re.compile(r'<script src=""[^>]*></script>')
HREF = re.compile(r'(href|src)="([^"]+)"')


def notebooks() -> list[Path]:
    """Return the tutorials, in their order."""
    return sorted((ROOT / "notebooks").glob("[0-9]*.ipynb"))


def written() -> list[Path]:
    """Return the pages that are written by hand."""
    docs = ROOT / "docs"
    return [path for path in sorted(docs.rglob("*.md")) if "generator" not in path.relative_to(docs).parts]


def on_config(config: Any) -> Any:
    """Make the pages, and put them into the navigation."""
    sources = [*written(), ROOT / "CHANGELOG.md", ROOT / "CONTRIBUTING.md"]
    _pages.clear()
    for name in ("CHANGELOG.md", "CONTRIBUTING.md"):
        text = (ROOT / name).read_text(encoding="utf-8")
        _pages[links.PAGES[name]] = links.rewrite(text, ".", links.PAGES[name])
    _pages.update(api_pages())
    _pages.update(dictionary_pages())
    _pages["reference/commands.md"] = command_page()
    _pages["gallery.md"] = gallery.gallery_page()
    _pages.update(
        {f"{links.FILES}/{path}.md": links.file_page(path) for path in links.linked_files([*sources, *notebooks()])}
    )
    parts = {
        "TUTORIALS": [{title_of(path): f"tutorials/{path.name}"} for path in notebooks()],
        "API": api_nav(),
    }
    config.nav = filled(config.nav, parts)
    append_unlisted(config.nav)
    return config


def title_of(notebook: Path) -> str:
    """Return the title of a notebook: its first heading."""
    match = re.search(r'"# ([^"\\]+)', notebook.read_text(encoding="utf-8"))
    return match[1] if match else notebook.stem


def filled(nav: Any, parts: dict[str, Any]) -> Any:
    """Return a navigation with its placeholders (`{"Tutorials": "TUTORIALS"}`) replaced; "..." is spliced in place."""
    if isinstance(nav, str):
        return parts.get(nav, nav)
    if isinstance(nav, dict):
        return {name: filled(item, parts) for name, item in nav.items()}
    items: list[Any] = []
    for item in nav:
        new = filled(item, parts)
        items += new if isinstance(item, str) and isinstance(new, list) else [new]
    return items


def listed(item: Any) -> set[str]:
    """Return the pages of a navigation."""
    if isinstance(item, str):
        return {item}
    children = item.values() if isinstance(item, dict) else item if isinstance(item, list) else ()
    return {path for child in children for path in listed(child)}


def append_unlisted(nav: Any) -> None:
    """Put guides and results that `mkdocs.yml` does not name at the end of their section: a new page needs no line there."""
    for section, folder in (("Guides", "guides"), ("Results", "results")):
        pages = next(item[section] for item in nav if section in item)
        pages += sorted({f"{folder}/{path.name}" for path in (ROOT / "docs" / folder).glob("*.md")} - listed(nav))


@event_priority(100)  # before mkdocs-jupyter, which wraps notebooks
def added(files: Files, config: Any) -> Files:
    """Add the made pages and the notebooks."""
    for path, text in _pages.items():
        files.append(File.generated(config, path, content=text))
    for path in notebooks():
        files.append(File.generated(config, f"tutorials/{path.name}", abs_src_path=str(path)))
    return files


@event_priority(-100)  # after mkdocs-jupyter
def located(files: Files, config: Any) -> Files:
    """Give the wrapped notebooks the path of their source, which the wrapper hides."""
    for path in notebooks():
        file = files.get_file_from_path(f"tutorials/{path.name}")
        assert file is not None
        file.abs_src_path = str(path)
    return files


on_files = CombinedEvent(added, located)


def on_page_markdown(markdown: str, page: Any, config: Any, files: Files) -> str:
    """Make links to files of the repository links to their pages, and give the page its weight in the search."""
    weight = next((weight for start, weight in WEIGHTS.items() if page.file.src_uri.startswith(start)), None)
    if weight is not None:
        page.meta["search"] = {"boost": weight}
    if page.file.src_uri in _pages:
        return markdown
    folder = str(Path("docs", page.file.src_uri).parent)
    return links.rewrite(markdown, folder, page.file.src_uri)


def alternative(image: str) -> str:
    """Return the text of a picture, which a page shows in place of one from another host."""
    match = re.search(r'\balt="([^"]*)"', image)
    return f"[{match[1]}]" if match else ""


def on_page_content(html: str, page: Any, config: Any, files: Files) -> str:
    """Draw formulas; make a notebook's page fetch nothing, and its links lead to pages."""
    if not page.file.src_uri.endswith(".ipynb"):
        try:
            return formulas.draw(html)
        except ValueError as error:
            raise PluginError(f"{page.file.src_uri}: {error}") from error
    html = EMPTY.sub("", FETCHING.sub("", html))
    html = REMOTE.sub(lambda match: alternative(match[0]), html)

    def moved(match: re.Match[str]) -> str:
        if links.external(match[2]) or match[2].startswith("data:"):
            return match[0]
        path, anchor = links.normal("notebooks", match[2])
        target = links.page_of(path)
        file = files.get_file_from_path(target) if target else None
        return match[0] if file is None else f'{match[1]}="{file.url_relative_to(page.file)}{anchor}"'

    return HREF.sub(moved, html)


@event_priority(-200)  # after the search index was put in place
def on_post_build(config: Any) -> None:
    """Check the links of the built site.

    Raises:
        PluginError: A link is dead, or a page fetches something from the network.
    """
    lines = site_check.problems(Path(config.site_dir))
    if lines:
        raise PluginError("\n".join(["dead links or fetched addresses:", *lines]))
