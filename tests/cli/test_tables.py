"""Tables of commands: plain text in a pipe, aligned within the window on a terminal."""

from __future__ import annotations

import io
import os
import subprocess
import sys
from pathlib import Path

import pandas as pd
import pytest
from rich.console import Console

from helpers.paths import ROOT
from neva_tl.cli.tables import print_blocks, print_report, print_rows, print_table

TABLE = pd.DataFrame(
    {
        "method": ["neva", "caa_projected"],
        "gate": ["none", "relevance"],
        **{f"column {i}": ["0.10 [0.05, 0.20]", "-"] for i in range(8)},
        "n": [3, 12],
        "ppl": [1.25, float("nan")],
    }
)


def lines(table: pd.DataFrame, width: int = 80) -> list[str]:
    out = io.StringIO()
    print_blocks(table, Console(file=out, width=width, force_terminal=True, color_system=None, markup=False))
    return [line.rstrip() for line in out.getvalue().splitlines()]


def test_a_pipe_gets_what_pandas_prints(capsys: pytest.CaptureFixture[str]) -> None:
    print_table(TABLE)
    assert capsys.readouterr().out == TABLE.to_string(index=False) + "\n"
    print_table(TABLE.set_index("method"), index=True)
    assert capsys.readouterr().out == TABLE.set_index("method").to_string() + "\n"
    print_table(TABLE, missing="–")
    assert capsys.readouterr().out == TABLE.to_string(index=False, na_rep="–") + "\n"
    print_report("all of it", lambda: pytest.fail("built the parts for a pipe"))
    print_rows("rows", ("a",), [("1",)])
    assert capsys.readouterr().out == "all of it\nrows\n"


def test_a_wide_table_is_printed_in_blocks_that_fit(capsys: pytest.CaptureFixture[str]) -> None:
    printed = lines(TABLE)
    assert max(map(len, printed)) <= 80
    heads = [line for line in printed if "method" in line]
    assert len(heads) > 1 and all("gate" in line for line in heads)  # each block names its rows
    assert [name for line in heads for name in TABLE.columns[2:] if f" {name}" in line.replace("method", "")] == [
        *TABLE.columns[2:]
    ]
    text = "\n".join(printed)
    assert text.count("0.10 [0.05, 0.20]") == 8 and "1.25" in text and "NaN" in text
    assert len([line for line in lines(TABLE, 400) if "method" in line]) == 1


def test_numbers_align_to_the_right_and_long_texts_are_folded() -> None:
    rows = [("tables/a.csv", 1.5, "x" * 30 + " " + "y" * 90), ("b", 10.25, "short")]
    table = pd.DataFrame(rows, columns=["file", "size", "reason"])
    printed = lines(table)
    assert max(map(len, printed)) <= 80
    first, second = (next(line for line in printed if name in line) for name in ("tables/a.csv", "short"))
    assert first.index("1.50") + 4 == second.index("10.25") + 5
    assert sum(line.count("y") for line in printed) == 90  # nothing is cut


def test_an_empty_table_and_a_bracket_are_printed_as_they_are() -> None:
    assert "method" in lines(TABLE.iloc[:0], 400)[1]
    assert any("[bold]x[/bold]" in line for line in lines(pd.DataFrame({"text": ["[bold]x[/bold]"], "n": [1]})))


CODE = """
import pandas as pd
from neva_tl.cli.tables import print_table
print_table(pd.DataFrame({"method": ["neva"], **{f"column{i}": [0.125 * i] for i in range(20)}}))
"""


@pytest.mark.skipif(not hasattr(os, "openpty"), reason="needs a pseudo-terminal")
def test_a_real_terminal_and_a_real_pipe() -> None:
    environment = {"PATH": os.environ["PATH"], "PYTHONPATH": str(ROOT), "TERM": "xterm", "COLUMNS": "80"}
    argv = [sys.executable, "-c", CODE]
    master, slave = os.openpty()
    with subprocess.Popen(argv, stdout=slave, env=environment, cwd=ROOT) as process:
        os.close(slave)
        shown = b""
        while True:
            try:
                block = os.read(master, 4096)
            except OSError:  # Linux: the other end is closed
                break
            if not block:
                break
            shown += block
    os.close(master)
    assert process.returncode == 0 and b"\x1b[1m" in shown  # bold headings
    assert shown.count(b"method") > 1
    piped = subprocess.run(argv, capture_output=True, env=environment, cwd=ROOT, check=True, timeout=60).stdout
    assert b"\x1b" not in piped and piped.count(b"\n") == 2 and b"method" in piped


def test_no_command_formats_a_table_by_itself() -> None:
    """Every table of a command goes through one function, so that terminals and pipes get the same treatment."""
    for file in Path(ROOT, "neva_tl", "cli").glob("*.py"):
        assert file.name == "tables.py" or "to_string(" not in file.read_text(encoding="utf-8"), file.name
