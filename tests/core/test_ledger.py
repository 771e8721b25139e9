"""The ledger of a run folder: lines of several processes, killed at any instant, and lines that are damaged themselves."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from neva_tl.core.errors import InputError
from neva_tl.core.files import atomic_write
from neva_tl.core.ledger import LEDGER, Ledger, check, checked_bytes


def write(file: Path, text: str) -> None:
    file.parent.mkdir(parents=True, exist_ok=True)
    with atomic_write(file) as target:
        target.write_text(text)


@pytest.fixture
def run(tmp_path: Path) -> Path:
    (tmp_path / "run").mkdir()
    Ledger.start(tmp_path / "run")
    return tmp_path / "run"


def test_every_atomic_write_below_the_folder_is_recorded(run: Path, tmp_path: Path) -> None:
    write(run / "a/b.json", "{}")
    write(run / "c.txt", "one")
    write(run / "c.txt", "two")
    write(tmp_path / "outside.txt", "x")
    ledger = Ledger(run)
    assert ledger.names() == ["a/b.json", "c.txt"] and len(ledger.entries("c.txt")) == 2
    assert {ledger.state(name) for name in ledger.names()} == {"good"} and ledger.state("d") == "unknown"
    before = (run / LEDGER).read_bytes()
    write(run / "c.txt", "two")
    assert (run / LEDGER).read_bytes() == before  # the same content needs no line


def test_a_changed_file_is_refused_in_one_line(run: Path) -> None:
    write(run / "a.txt", "one")
    assert checked_bytes(run / "a.txt") == b"one"
    (run / "a.txt").write_text("two")
    with pytest.raises(InputError, match=r"a\.txt was changed .*its content differs.*neva-tl verify") as caught:
        check(run / "a.txt")
    assert "\n" not in str(caught.value)
    (run / "a.txt").write_text("")
    with pytest.raises(InputError, match="0 bytes, 3 were written"):
        checked_bytes(run / "a.txt")
    (run / "a.txt").unlink()
    (run / "a.txt").mkdir()
    with pytest.raises(InputError, match="was changed"):
        check(run / "a.txt")


def test_killed_between_line_and_rename(run: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The old content stays good, and a file that never came is missing."""
    write(run / "a.txt", "one")

    def die(*args: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(os, "replace", die)
    for name in ("a.txt", "b.txt"):
        with pytest.raises(KeyboardInterrupt):
            write(run / name, "two")
    ledger = Ledger(run)
    assert [len(ledger.entries(name)) for name in ("a.txt", "b.txt")] == [2, 1]
    assert (ledger.state("a.txt"), ledger.state("b.txt")) == ("good", "missing")


def test_half_a_line_is_ignored_and_the_next_line_is_whole(run: Path) -> None:
    write(run / "a.txt", "one")
    with (run / LEDGER).open("ab") as file:
        file.write(b'{"path": "b.txt", "si')
    assert Ledger(run).damaged == 0 and Ledger(run).names() == ["a.txt"]
    write(run / "c.txt", "three")
    assert Ledger(run).names() == ["a.txt", "c.txt"] and Ledger(run).damaged == 1


def test_no_flipped_bit_of_the_ledger_makes_a_line_of_it(run: Path) -> None:
    write(run / "a.txt", "one")
    write(run / "b.txt", "two")
    data = (run / LEDGER).read_bytes()
    true = {name: Ledger(run).entries(name) for name in ("a.txt", "b.txt")}
    for position in range(len(data)):
        for bit in (1, 16):
            (run / LEDGER).write_bytes(data[:position] + bytes([data[position] ^ bit]) + data[position + 1 :])
            ledger = Ledger(run)
            assert all(ledger.entries(name) == true[name] for name in ledger.names())
            assert ledger.damaged or position == len(data) - 1 or ledger.names() == ["a.txt", "b.txt"]


def test_a_forgotten_file_is_unknown_until_it_is_written(run: Path) -> None:
    write(run / "a.txt", "one")
    ledger = Ledger(run)
    ledger.forget("a.txt")
    assert ledger.state("a.txt") == "unknown" and not ledger.names()
    write(run / "a.txt", "two")
    assert ledger.state("a.txt") == "good"
    (run / "a.txt").write_text("one")
    assert ledger.state("a.txt") == "changed"


def test_the_manifest_is_stored_with_its_content(run: Path) -> None:
    write(run / "manifest.json", '{"study": "ä"}')
    assert Ledger(run).entries("manifest.json")[-1].content == '{"study": "ä"}'


WORKER = """
import sys
from pathlib import Path
from neva_tl.core.files import atomic_write
for number in range(60):
    with atomic_write(Path(sys.argv[1]) / f"{sys.argv[2]}-{number}.txt") as file:
        file.write_text(str(number) * 50)
    with atomic_write(Path(sys.argv[1]) / "shared.txt") as file:
        file.write_text(f"{sys.argv[2]} {number}")
"""


def test_several_processes_share_a_ledger(run: Path) -> None:
    processes = [subprocess.Popen([sys.executable, "-c", WORKER, str(run), str(n)]) for n in range(3)]
    assert [process.wait() for process in processes] == [0, 0, 0]
    ledger = Ledger(run)
    assert ledger.damaged == 0 and len(ledger.names()) == 181
    assert {ledger.state(name) for name in ledger.names()} == {"good"}
    assert all(json.loads(line)["crc"] for line in (run / LEDGER).read_text().splitlines())
