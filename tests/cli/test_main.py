"""The command line: what it prints, where, and with which exit status."""

from __future__ import annotations

import csv
import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pandas as pd
import pytest

import neva_tl as nv
from helpers.paths import ROOT
from neva_tl.cli import main as cli
from neva_tl.models.tiny import tiny_checkpoint

COMMANDS = ("run", "collect", "select", "generate", "leakage", "layers", "circuit", "train-demo")
THINGS = "bridge mill farm harbour market garden school choir tower council forge bakery library orchard"


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> str:
    return str(tiny_checkpoint(tmp_path_factory.mktemp("cli") / "tiny", chat=True))


@pytest.fixture(scope="module")
def pairs(tmp_path_factory: pytest.TempPathFactory) -> str:
    """Pairs of two values that a random model tells apart by their words."""
    path = tmp_path_factory.mktemp("cli") / "pairs.csv"
    things = THINGS.split()
    with path.open("w", newline="", encoding="utf-8") as handle:
        table = csv.writer(handle)
        table.writerow(["value", "question_1", "question_2"])
        for thing in things:
            table.writerow(["power", f"Take command of the {thing} and rule.", f"Let others lead the {thing} today."])
            table.writerow(["tradition", f"Keep the {thing} as it was.", f"Throw out the {thing}, it is old."])
    return f"pairs:{path}"


# ---------------------------------------------------------------- help, usage, errors


@pytest.mark.parametrize("command", COMMANDS)
def test_help_of_every_command(call: Any, command: str) -> None:
    status, out, err = call(command, "--help")
    assert status == 0 and err == ""
    for option in ("--seed", "--json", "--out", "--debug"):
        assert option in out, f"{command} has no {option}"
    assert ("--model <" in out or "--model  " in out) == (command != "train-demo")


def test_help_lists_the_commands(call: Any) -> None:
    status, out, _ = call("--help")
    assert status == 0 and all(command in out for command in COMMANDS)


@pytest.mark.parametrize(
    "argv",
    [
        ("fly",),
        ("run", "--fly"),
        ("run", "--seed", "soon"),
        ("run", "--seed", "-1"),
        ("run", "--k", "0"),
        ("select",),
        ("generate", "hi", "--tokens", "0"),
        ("generate", "hi", "--temperature", "-1"),
        ("generate", "hi", "--dose", "much"),
    ],
)
def test_wrong_usage_is_one_line_and_exit_2(call: Any, argv: tuple[str, ...]) -> None:
    status, out, err = call(*argv)
    assert status == 2 and out == "" and len(err.strip().splitlines()) == 1
    assert err.startswith("neva-tl") and "--help" in err


def test_no_command_shows_the_help(call: Any) -> None:
    status, out, err = call()
    assert status == 2 and "run" in out + err and "Traceback" not in out + err


def test_debug_shows_the_traceback(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(nv.InputError):
        cli.main(["select", "--value", "greed", "--debug"])


def test_a_bug_is_exit_1_with_a_way_to_the_traceback(call: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(*args: Any, **kwargs: Any) -> None:
        raise ZeroDivisionError("by\nzero")

    monkeypatch.setitem(nv.__dict__, "load", broken)
    status, out, err = call("generate", "hi")
    assert (status, out) == (1, "")
    assert err == "neva-tl: ZeroDivisionError: by zero (rerun with --debug for the traceback)\n"
    with pytest.raises(ZeroDivisionError):
        cli.main(["generate", "hi", "--debug"])


def test_stopping_is_exit_130(call: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    def stopped(*args: Any, **kwargs: Any) -> None:
        raise KeyboardInterrupt

    monkeypatch.setitem(nv.__dict__, "load", stopped)
    status, _, err = call("generate", "hi")
    assert status == 130 and "run the same command again to resume" in err


# ---------------------------------------------------------------- real commands on a tiny model


def test_collect_says_and_records_which_rows_the_reader_left_out(
    call: Any, model: str, pairs: str, tmp_path: Path
) -> None:
    path = Path(pairs.partition(":")[2])
    lines = path.read_text().splitlines()
    twice = tmp_path / "twice.csv"
    twice.write_text("\n".join([*lines, lines[1]]) + "\n")
    status, _, err = call("collect", "--model", model, "--prompts", f"pairs:{twice}", "--out", tmp_path / "stats")
    note = f"1 of {len(lines)} pairs left out: repeated ones."
    assert status == 0 and err.splitlines()[-1] == f"prompts: {note}"
    assert json.loads((tmp_path / "stats.json").read_text())["prompts_note"] == note
    assert nv.ActivationStats.load(tmp_path / "stats").prompts_note == note


def test_collect_select_circuit(call: Any, model: str, pairs: str, tmp_path: Path) -> None:
    stats = tmp_path / "made" / "stats"
    status, out, err = call("collect", "--model", model, "--prompts", pairs, "--out", stats, "--json")
    found = json.loads(out)
    assert status == 0 and found["prompts"] == {"power": 14, "tradition": 14} and Path(found["stats"]).is_file()
    assert "collect" in err  # the progress bar

    where = ("--model", model, "--prompts", pairs)
    status, out, err = call(
        "select", "--value", "power", *where, "--stats", stats, "--k", 5, "--out", tmp_path / "n", "--json"
    )
    rows = json.loads(out)
    assert status == 0 and 0 < len(rows) <= 5 and {"layer", "neuron", "score"} <= set(rows[0])
    neurons = nv.NeuronSet.load(tmp_path / "n")
    assert [row["neuron"] for row in rows] == neurons.df["neuron"].tolist()
    status, text, _ = call("select", "--value", "power", *where, "--stats", stats, "--k", 5)
    assert status == 0 and "NeuronSet(power" in text
    fresh = json.loads(call("select", "--value", "power", *where, "--k", 5, "--json")[1])
    assert [(r["layer"], r["neuron"]) for r in fresh] == [(r["layer"], r["neuron"]) for r in rows]

    picture = tmp_path / "c" / "circuit.json"
    quick = ("--k", 4, "--size", 0, "--out", picture, "--json")
    status, out, err = call("circuit", "--value", "power", *where, *quick)
    assert status == 0 and json.loads(out) == json.loads(picture.read_text()) and "written" in err
    status, _, err = call("circuit", "--value", "power", *where, "--out", tmp_path / "c.gif")
    assert status == 2 and "use one of" in err.splitlines()[-1]


def test_names_with_dots_are_names(call: Any, model: str, pairs: str, tmp_path: Path) -> None:
    """Two collections and two sets whose names differ after the dot alone lie side by side."""
    other = str(tiny_checkpoint(tmp_path / "llama-3.2", chat=True, seed=1))
    checkpoints = {"v1.1": model, "v1.2": other}
    for version, checkpoint in checkpoints.items():
        status, out, _ = call(
            "collect", "--model", checkpoint, "--prompts", pairs, "--out", tmp_path / version, "--json"
        )
        assert status == 0 and Path(json.loads(out)["stats"]).name == f"{version}.json"
    for version, checkpoint in checkpoints.items():
        where = ("--model", checkpoint, "--prompts", pairs, "--stats", tmp_path / version)
        status, out, _ = call(
            "select", "--value", "power", *where, "--k", 5, "--out", tmp_path / f"n{version}", "--json"
        )
        rows = [row["neuron"] for row in json.loads(out)]
        assert status == 0 and nv.NeuronSet.load(tmp_path / f"n{version}").df["neuron"].tolist() == rows
    names = {file.name for file in tmp_path.iterdir() if file.is_file()}
    assert names == {f"{n}{v}.{end}" for n in ("", "n") for v in checkpoints for end in ("json", "safetensors")}


def test_circuit_of_the_demo_model(call: Any, tmp_path: Path) -> None:
    """A searched circuit, small and quick: it says how faithful it is on texts it was not searched on."""
    page = tmp_path / "x.html"
    where = ("--rows", 20, "--texts", 12, "--size", 24, "--out", page)
    status, out, _ = call("circuit", "--value", "benevolence", *where)
    assert status == 0 and "Faithfulness: 24 nodes alone keep F =" in out and "24 test texts" in out
    assert "<svg" in page.read_text() and "http://" not in page.read_text().replace("http://www.w3.org", "")


def test_statistics_of_another_model_are_refused(call: Any, model: str, pairs: str, tmp_path: Path) -> None:
    _, _, err = call("collect", "--model", model, "--prompts", pairs, "--out", tmp_path / "s")
    assert "left out" not in err
    other = tiny_checkpoint(tmp_path / "other", chat=True, seed=1)
    status, _, err = call("select", "--value", "power", "--model", other, "--stats", tmp_path / "s")
    assert status == 2 and "other weights" in err.splitlines()[-1]


def test_generate(call: Any, model: str, pairs: str, tmp_path: Path) -> None:
    file = tmp_path / "text.json"
    status, out, _ = call("generate", "The old king", "--model", model, "--tokens", 4, "--json", "--out", file)
    plain = json.loads(out)
    assert status == 0 and set(plain) == {"prompt", "unedited"} and json.loads(file.read_text()) == plain
    argv = ("generate", "The old king", "--model", model, "--prompts", pairs, "--tokens", 4, "--value", "power")
    status, out, _ = call(*argv, "--method", "caa", "--dose", "3", "--json")
    steered = json.loads(out)
    assert status == 0 and steered["unedited"] == plain["unedited"] and set(steered) == {*plain, "caa"}
    status, text, _ = call(*argv, "--method", "neva_shift")
    assert status == 0 and text.startswith("[unedited] The old king") and "[neva_shift]" in text


def test_run_and_leakage_pass_their_options_on(call: Any, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """The study itself is tested elsewhere; here: which study a command line asks for, and what is printed of it."""
    asked: dict[str, Any] = {}

    class Result:
        folder = tmp_path

        @property
        def results(self) -> dict[str, Any]:
            return {"schema": 1, "methods": {}}

        def table(self, name: str) -> pd.DataFrame:
            rows = [("caa", "power", m, d) for m, d in (("power", 0.4), ("tradition", 0.1))]
            return pd.DataFrame(rows, columns=["method", "steered", "measured", "d"])

        def text(self) -> str:
            return "the table"

    class FakeStudy:
        def __init__(self, **options: Any) -> None:
            asked.update(options)

        def run(self, out: Path, progress: bool, workers: int | None = None) -> Result:
            asked.update(out=out, progress=progress, workers=workers)
            return Result()

    monkeypatch.setattr("neva_tl.study.Study", FakeStudy)
    options = ("--model", "m", "--value", "power", "--value", "hedonism", "--seed", 3, "--out", tmp_path / "o")
    status, out, err = call(
        "run",
        *options,
        "--method",
        "caa",
        "--k",
        7,
        "--scope",
        "last",
        "--gate",
        "none",
        "--workers",
        3,
        "--profile",
        "full",
    )
    assert status == 0 and out == "the table\n" and "report.html" in err
    assert asked["values"] == ("power", "hedonism") and asked["methods"] == ("caa",) and asked["progress"] is True
    assert (asked["k"], asked["scope"], asked["profile"], asked["seed"]) == (7, "last", "full", 3)
    assert (asked["gate"], asked["workers"]) == ("none", 3)
    assert json.loads(call("run", "--json")[1]) == Result().results
    assert asked["model"] == "demo" and asked["values"] == () and asked["methods"][0] == "neva"
    status, out, _ = call("leakage", "--method", "caa", "--gain", "0.3", "--json")
    assert status == 0 and [row["d"] for row in json.loads(out)] == [0.4, 0.1]
    assert asked["overrides"] == {"targets": (0.3,)} and asked["methods"] == ("caa",)
    status, out, _ = call("leakage", "--method", "caa")
    assert status == 0 and "tradition" in out and "the table" in out


def test_layers_prints_the_table(call: Any, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    def table(*args: Any, **options: Any) -> pd.DataFrame:
        assert args[2] == ["power"] and options["k"] == 4 and options["folder"] == tmp_path
        return pd.DataFrame({"value": ["power"], "layer": [1], "d_csr": [-0.25]})

    monkeypatch.setattr("neva_tl.study.layer_ablation", table)
    argv = ("layers", "--value", "power", "--k", 4, "--out", tmp_path)
    assert json.loads(call(*argv, "--json")[1]) == [{"value": "power", "layer": 1, "d_csr": -0.25}]
    assert "-0.25" in call(*argv)[1]


# ---------------------------------------------------------------- real processes


def python(*argv: str) -> subprocess.CompletedProcess[str]:
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "HF_HUB_OFFLINE": "1"}
    return subprocess.run(
        [sys.executable, *argv], capture_output=True, text=True, timeout=120, env=environment, cwd=ROOT, check=False
    )


HEAVY = "('torch', 'transformer_lens', 'transformers', 'matplotlib', 'pandas', 'scipy')"


@pytest.mark.parametrize(
    "code",
    [
        "import neva_tl; neva_tl.__version__; dir(neva_tl)",
        "from neva_tl.cli.main import main\ntry: main(['--help'])\nexcept SystemExit as end: assert not end.code",
        "from neva_tl.cli.main import main\ntry: main(['run', '--help'])\nexcept SystemExit as end: assert not end.code",
    ],
)
def test_help_and_import_load_nothing_heavy(code: str) -> None:
    done = python("-c", f"import sys\n{code}\nprint('loaded:', [m for m in {HEAVY} if m in sys.modules])")
    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines()[-1] == "loaded: []"


def test_as_a_module() -> None:
    done = python("-m", "neva_tl", "generate", "hi", "--model", "no-such-model")
    assert done.returncode == 2 and done.stdout == ""
    (line,) = done.stderr.strip().splitlines()
    assert line.startswith("neva-tl: unknown model 'no-such-model'")
