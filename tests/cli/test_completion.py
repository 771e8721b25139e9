"""Shell completion: names as the registries have them, and an answer without heavy imports."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest

from helpers.paths import ROOT
from neva_tl.cli import completion
from neva_tl.cli.main import app
from neva_tl.core.method_records import METHODS
from neva_tl.core.theories import SCHWARTZ, THEORIES
from neva_tl.evaluation.judges.registry import JUDGES
from neva_tl.models.short_names import SHORT_NAMES
from neva_tl.prompts.registry import BUILT_IN, READERS
from neva_tl.selection import SELECTORS

COMPLETE = """
import sys
from neva_tl.cli.main import main
try:
    main([])
finally:
    print("loaded:", [m for m in ("torch", "transformers", "pandas", "scipy") if m in sys.modules], file=sys.stderr)
"""


def test_the_names_are_those_of_the_registries() -> None:
    assert list(completion.METHODS) == list(METHODS) and list(completion.SELECTORS) == list(SELECTORS)
    assert list(completion.THEORIES) == list(THEORIES)
    assert {name.rstrip(":") for name in completion.PROMPTS} == {"auto", *BUILT_IN, *READERS}
    assert {name.rstrip(":") for name in completion.JUDGES} == {"auto", "logprob", *JUDGES}
    assert {name.rstrip(":") for name in completion.MODELS} == {"demo", *SHORT_NAMES}


def completed(line: str) -> list[str]:
    """What the shell offers for the last word of a command line, from a real process."""
    words = line.split(" ")
    environment = {
        **os.environ,
        "PYTHONPATH": str(ROOT),
        "COMP_WORDS": line,
        "COMP_CWORD": str(len(words) - 1),
        "_NEVA_TL_COMPLETE": "complete_bash",
    }
    done = subprocess.run(
        [sys.executable, "-c", COMPLETE], capture_output=True, text=True, timeout=60, env=environment, check=True
    )
    assert done.stderr.splitlines()[-1] == "loaded: []"
    return done.stdout.split()


def test_values_are_completed_without_heavy_imports() -> None:
    assert completed("neva-tl run --theory moral-foundations --value ") == list(THEORIES["moral-foundations"].names)
    assert completed("neva-tl select --value un") == [name for name in SCHWARTZ.names if name.startswith("un")]


@pytest.mark.parametrize(
    ("option", "of"),
    [
        ("--model", completion.MODELS), ("--prompts", completion.PROMPTS), ("--theory", completion.THEORIES),
        ("--judge", completion.JUDGES), ("--method", ("auto", *METHODS)), ("--selector", ("auto", *SELECTORS)),
    ],
)  # fmt: skip
def test_options_are_completed_in_every_command(option: str, of: tuple[str, ...]) -> None:
    """The completion of the option, where typer calls it."""
    import typer

    command = typer.main.get_command(app)
    found = 0
    for name, sub in command.commands.items():  # type: ignore[attr-defined]
        for parameter in sub.params:
            if option in parameter.opts:
                context = typer.Context(sub)
                offered = [item.value for item in parameter.shell_complete(context, "")]
                selector = option == "--method" and name in ("select", "circuit")
                assert offered == (["auto", *SELECTORS] if selector else list(of)), name
                found += 1
    assert found


def test_the_shell_script_is_printed(call, monkeypatch) -> None:
    monkeypatch.setattr("shellingham.detect_shell", lambda: ("bash", "/bin/bash"))  # tests may run without a shell
    status, out, _ = call("--show-completion")
    assert status == 0 and "_NEVA_TL_COMPLETE=complete_bash" in out
