"""The page of every command and option, from the command line's own help."""

from __future__ import annotations

import re

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
    # typer cuts the sentences of this list, and links none of its commands
    for name, one in getattr(command, "commands", {}).items():
        sentence = (one.help or "").split("\n\n", 1)[0].replace("\n", " ")
        line = f"* [`{name}`](#neva-tl-{name}): {sentence}"
        text = re.sub(rf"^\* `{re.escape(name)}`: .*$", lambda _, line=line: line, text, count=1, flags=re.MULTILINE)
    # an angle bracket in prose is not HTML; in code it is one already
    escaped = {"<": "&lt;", ">": "&gt;"}
    return INTRO + re.sub(r"```.*?```|`[^`]*`|[<>]", lambda m: escaped.get(m[0], m[0]), text, flags=re.DOTALL)
