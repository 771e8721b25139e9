"""`neva-tl cache`: what the user's cache holds, and removing it."""

from __future__ import annotations

import json
import time
from typing import Annotated

import typer

from neva_tl.cli.options import Debug, Json, Quiet, Verbose
from neva_tl.cli.tables import print_rows
from neva_tl.core.messages import notice


def register(app: typer.Typer) -> None:
    """Add the command.

    Args:
        app: The command line of `neva-tl`.
    """
    app.command()(cache)


def cache(
    clear: Annotated[bool, typer.Option("--clear", help="remove everything; it is computed again when needed")] = False,
    as_json: Json = False,
    quiet: Quiet = False,
    verbose: Verbose = False,
    debug: Debug = False,
) -> None:
    """List the cached checkpoints, statistics and measurements, or remove them.

    NEVA_TL_CACHE sets the folder, NEVA_TL_CACHE_GB the size limit; the oldest entries go first.
    """
    from neva_tl.core.user_cache import cache_folder, entries, limit_bytes, prune

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
    if clear and stored:
        notice(f"{len(stored)} entries stay: another process uses them")
    now = time.time()
    cells = [(e.kind, f"{e.size / 1e6:,.1f}", f"{(now - e.used) / 3600:.1f}", e.path.name) for e in stored]
    lines = [f"  {kind:<10} {size:>9} MB  used {hours:>6} h ago  {name}" for kind, size, hours, name in cells]
    if stored:
        print_rows("\n".join(lines), ("kind", "MB", "used, hours ago", "name"), cells)
