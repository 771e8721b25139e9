"""`neva-tl cache`: what the user's cache holds, and removing it."""

from __future__ import annotations

import json
import time
from typing import Annotated

import typer

from neva_tl.cli.options import Debug, Json
from neva_tl.core.user_cache import cache_folder, entries, limit_bytes, prune


def register(app: typer.Typer) -> None:
    """Add the command.

    Args:
        app: The command line of `neva-tl`.
    """
    app.command()(cache)


def cache(
    clear: Annotated[bool, typer.Option("--clear", help="remove everything; it is computed again when needed")] = False,
    as_json: Json = False,
    debug: Debug = False,
) -> None:
    """List the cached checkpoints, statistics and measurements, or remove them.

    NEVA_TL_CACHE sets the folder, NEVA_TL_CACHE_GB the size limit; the oldest entries go first.
    """
    removed = prune(everything=True) if clear else []
    stored = entries()
    total = sum(entry.size for entry in stored)
    if as_json:
        rows = [{"kind": e.kind, "name": e.path.name, "bytes": e.size, "used": e.used} for e in stored]
        facts = {"folder": str(cache_folder()), "bytes": total, "limit": limit_bytes(), "removed": len(removed)}
        print(json.dumps({**facts, "entries": rows}))
        return
    print(f"{cache_folder()}: {total / 1e6:,.0f} MB of at most {limit_bytes() / 1e9:g} GB, {len(stored)} entries")
    if clear:
        print(f"removed {len(removed)} entries ({sum(entry.size for entry in removed) / 1e6:,.0f} MB)")
    now = time.time()
    for entry in stored:
        print(
            f"  {entry.kind:<10} {entry.size / 1e6:>9,.1f} MB  used {(now - entry.used) / 3600:>6.1f} h ago  {entry.path.name}"
        )
