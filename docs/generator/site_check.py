"""Every link of the built site has its target, and no page fetches anything from the network."""

from __future__ import annotations

import re
from html.parser import HTMLParser
from pathlib import Path
from urllib.parse import unquote, urlsplit

#: Attributes that fetch something as the page opens.
FETCHED = {"script": "src", "img": "src", "iframe": "src", "source": "src", "video": "src", "link": "href"}
#: `rel` of a `link` that fetches nothing.
IDLE = {"canonical", "prev", "next", "alternate"}
IMPORT = re.compile(r"@import\s+(?:url\()?['\"]?(https?:)?//|url\(['\"]?(https?:)?//")


class Page(HTMLParser):
    """Links, anchors and fetched addresses of one page."""

    def __init__(self, text: str) -> None:
        super().__init__(convert_charrefs=True)
        self.anchors: set[str] = set()
        self.links: list[str] = []
        self.fetched: list[str] = []
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        """Record an element."""
        attributes = dict(attrs)
        self.anchors |= {value for name in ("id", "name") if (value := attributes.get(name))}
        if tag == "a" and (href := attributes.get("href")):
            self.links.append(href)
        address = attributes.get(FETCHED.get(tag, ""))
        if address and not (tag == "link" and set((attributes.get("rel") or "").split()) & IDLE):
            self.fetched.append(address)


def remote(address: str) -> bool:
    """Return whether an address leads to another host."""
    return bool(urlsplit(address).netloc)


def problems(site: Path) -> list[str]:
    """Return the dead links of a built site and the addresses that it would fetch, one line each.

    Args:
        site: Folder of the site.
    """
    pages = {path: Page(path.read_text(encoding="utf-8")) for path in sorted(site.rglob("*.html"))}
    lines = []
    for path, page in pages.items():
        where = path.relative_to(site).as_posix()
        lines += [f"{where}: fetches {address}" for address in page.fetched if remote(address)]
        for link in {*page.links, *page.fetched}:
            parts = urlsplit(link)
            if parts.scheme or parts.netloc or path.name == "404.html":
                continue
            target = (path.parent / unquote(parts.path)).resolve() if parts.path else path
            if target.is_dir():
                target /= "index.html"
            if not target.exists():
                lines.append(f"{where}: no file for the link {link}")
            elif target in pages and (name := unquote(parts.fragment)) and name not in pages[target].anchors:
                lines.append(f"{where}: no anchor for the link {link}")
    for path in site.rglob("*.css"):
        if IMPORT.search(path.read_text(encoding="utf-8")):
            lines.append(f"{path.relative_to(site).as_posix()}: fetches from the network")
    return lines
