"""--quiet and --verbose: the same before and after every command."""

from __future__ import annotations

from pathlib import Path
from typing import Any, get_type_hints

import pytest

from helpers.bad_inputs import THINGS
from neva_tl.cli.main import app
from neva_tl.core import messages
from neva_tl.models.tiny import tiny_checkpoint


@pytest.fixture(scope="module")
def inputs(tmp_path_factory: pytest.TempPathFactory) -> tuple[str, ...]:
    folder = tmp_path_factory.mktemp("levels")
    rows = [f"thrift,I reuse the {thing} and save.,I waste the {thing} and spend." for thing in THINGS]
    (folder / "pairs.csv").write_text("\n".join(["value,question_1,question_2", *rows, rows[0]]) + "\n")
    return "--model", str(tiny_checkpoint(folder / "tiny")), "--prompts", f"pairs:{folder / 'pairs.csv'}"


def test_every_command_takes_them() -> None:
    for command in app.registered_commands:
        assert command.callback is not None
        assert {"quiet", "verbose", "debug"} <= set(get_type_hints(command.callback)), command.callback.__name__


def test_quiet_leaves_warnings_and_results(call: Any, inputs: tuple[str, ...], tmp_path: Path) -> None:
    status, out, err = call("collect", *inputs, "--out", tmp_path / "a")
    assert status == 0 and "collect" in err and "12 prompts" in out
    note = err.splitlines()[-1]
    assert note.startswith("prompts: 1 of 13 pairs left out")
    for name, argv in {"b": ("--quiet", "collect"), "c": ("collect", "-q")}.items():
        status, again, err = call(*argv[:1], *argv[1:], *inputs, "--out", tmp_path / name)
        assert status == 0 and err.splitlines() == [note] and again.split(" -> ")[0] == out.split(" -> ")[0]
    status, _, err = call("-q", "select", "--value", "greed", *inputs)
    assert status == 2 and err.count("\n") == 1 and err.startswith("neva-tl: ")


def test_verbose_says_what_was_decided_and_how_long_it_took(call: Any, inputs: tuple[str, ...]) -> None:
    argv = ("select", "--value", "thrift", *inputs, "--method", "effect_size", "--k", 3)
    status, plain, err = call(*argv)
    assert status == 0 and "decided" not in err
    for verbose in ((*argv, "--verbose"), ("-v", *argv)):
        status, out, err = call(*verbose)
        assert status == 0 and out == plain
        assert "decided: " in err and "pooling mean" in err and "loading " in err and " s\n" in err
    assert messages.level() is messages.Level.NORMAL


@pytest.mark.parametrize("argv", [("-q", "cache", "-v"), ("--verbose", "--quiet", "cache"), ("cache", "-v", "-q")])
def test_they_exclude_each_other(call: Any, argv: tuple[str, ...]) -> None:
    status, out, err = call(*argv)
    assert (status, out) == (2, "") and err.count("\n") == 1 and "exclude each other" in err
