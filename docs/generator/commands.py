"""The page of every command and option, from the command line's own help."""

from __future__ import annotations

import typer
from typer.cli import get_docs_for_click
from typer.main import get_command

INTRO = """# Every command and option

What `neva-tl COMMAND --help` prints, for all commands. What they have in common (exit status, output, completion, `--out`,
models, prompts, judges) is on [the command line](../cli.md).

"""


def command_page() -> str:
    """Return the page, in Markdown."""
    from neva_tl.cli.main import app

    command = get_command(app)
    text = get_docs_for_click(obj=command, ctx=typer.Context(command), name="neva-tl", indent=1)
    # an angle bracket of a placeholder is not HTML
    return INTRO + text.replace("<", "&lt;").replace(">", "&gt;")
