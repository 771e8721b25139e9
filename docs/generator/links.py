"""Links between pages, and from pages to files of the repository that are no pages: those files become pages."""

from __future__ import annotations

import os.path
import re
from collections.abc import Iterable
from pathlib import Path, PurePosixPath

from generator.names import ROOT

#: Files outside docs/ that have a page of their own -> that page.
PAGES = {"README.md": "index.md", "CHANGELOG.md": "changelog.md", "CONTRIBUTING.md": "contributing.md"}
#: Folder of the pages that show a file of the repository.
FILES = "files"
#: A Markdown link or picture: text, target, title.
LINK = re.compile(r"(\]\()([^()\s]+)((?:\s+\"[^\"]*\")?\))")
FENCE = re.compile(r"^(```|~~~).*?^\1", re.DOTALL | re.MULTILINE)
LANGUAGES = {".py": "python", ".csv": "text", ".yaml": "yaml", ".cff": "yaml", ".toml": "toml", ".md": "markdown"}


def external(target: str) -> bool:
    """Return whether a link leaves the site, or stays on its page."""
    return bool(re.match(r"[a-z][a-z+.-]*:", target)) or target.startswith("#")


def page_of(path: str) -> str | None:
    """Return the page of a file of the repository: a path within docs/.

    Args:
        path: Path from the repository's root.

    Returns:
        The page; None where the file does not exist.
    """
    if path in PAGES:
        return PAGES[path]
    if path.startswith("docs/"):
        inner = path.removeprefix("docs/")
        return f"{inner}/index.md" if (ROOT / path).is_dir() else inner
    if path.startswith("notebooks/") and path.endswith(".ipynb"):
        return f"tutorials/{path.removeprefix('notebooks/')}"
    return f"{FILES}/{path}.md" if (ROOT / path).is_file() else None


def relative(target: str, page: str) -> str:
    """Return the path from one page to another."""
    return os.path.relpath(target, os.path.dirname(page) or ".").replace(os.sep, "/")


def targets(text: str) -> Iterable[str]:
    """Return the targets of a text's links, without code blocks."""
    return (match[2] for match in LINK.finditer(FENCE.sub("", text)) if not external(match[2]))


def normal(folder: str, target: str) -> tuple[str, str]:
    """Return the path from the repository's root of a link in a file of `folder`, and its `#anchor`."""
    path, mark, anchor = target.partition("#")
    return os.path.normpath(PurePosixPath(folder, path).as_posix()).replace(os.sep, "/"), mark + anchor


def rewrite(text: str, folder: str, page: str) -> str:
    """Return a page with its links to files of the repository made links to their pages.

    Args:
        text: Markdown.
        folder: Folder of its source, from the repository's root.
        page: The page that it becomes.
    """

    def moved(match: re.Match[str]) -> str:
        if external(match[2]):
            return match[0]
        path, anchor = normal(folder, match[2])
        target = page_of(path)
        return match[0] if target is None else f"{match[1]}{relative(target, page)}{anchor}{match[3]}"

    position, chunks = 0, []
    for fence in FENCE.finditer(text):
        chunks += [LINK.sub(moved, text[position : fence.start()]), fence[0]]
        position = fence.end()
    return "".join([*chunks, LINK.sub(moved, text[position:])])


def linked_files(sources: Iterable[Path]) -> set[str]:
    """Return the files of the repository that some pages link to and that need a page of their own."""
    paths = set()
    for source in sources:
        folder = source.parent.relative_to(ROOT).as_posix()
        for target in targets(source.read_text(encoding="utf-8")):
            path, _ = normal(folder, target)
            page = page_of(path)
            if page is not None and page.startswith(f"{FILES}/"):
                paths.add(path)
    return paths


def file_page(path: str) -> str:
    """Return the page that shows a file of the repository."""
    text = (ROOT / path).read_text(encoding="utf-8").rstrip()
    language = LANGUAGES.get(Path(path).suffix, "text")
    return f"---\ntitle: {path}\nsearch:\n  exclude: true\n---\n# `{path}`\n\n````{language}\n{text}\n````\n"
