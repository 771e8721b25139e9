"""The annotate command with piped answers: blind, resumable, and honest about what the person said."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pandas as pd
import pytest

from helpers.paths import ROOT
from neva_tl.evaluation.labels.labelled import LabelledTexts
from neva_tl.study.run.run_folder import RunFolder

Call = Callable[..., tuple[int, str, str]]


@pytest.fixture
def run(tmp_path: Path) -> Path:
    """A run folder with texts that say what they are only to those who know."""
    rows = [
        {
            "method": "unedited",
            "steered": None,
            "target_gain": None,
            "prompt": f"p{k}",
            "topic": f"t{k}",
            "text": f"plain {k}\x1b[2J",
        }
        for k in range(6)
    ]
    rows += [
        {"method": m, "steered": v, "target_gain": 0.4, "prompt": f"p{k}", "topic": f"t{k}", "text": f"words {m[0]}{v[0]} {k}"}
        for m in ("neva", "caa") for v in ("power", "security") for k in range(6)
    ]  # fmt: skip
    folder = tmp_path / "run"
    store = RunFolder.open(folder, {"study": "abc"})
    store.write_json("manifest.json", {"study": "abc", "config": {"judge": "wordlist"}})
    store.write_table("tables/generations", pd.DataFrame(rows).astype({"target_gain": "Float64"}))
    return folder


def answers(run: Path, name: str = "me") -> list[dict]:
    return [json.loads(line) for line in (run / "annotations" / f"{name}.jsonl").read_text().splitlines()][1:]


def test_stop_and_go_on_then_see_the_result(call: Call, run: Path) -> None:
    status, out, err = call("annotate", run, "--n", 10, typed="5\nn\nq\n")
    assert status == 0 and "2 of 11 answered" in out and "hidden" in out and "csr" not in out
    assert len(answers(run)) == 2
    # nothing that tells the condition was shown, and no escape sequence reached the terminal
    assert not any(word in err for word in ("neva ", "caa", "unedited", "0.4")) and "\x1b" not in err
    status, out, err = call("annotate", run, typed="n\n" * 9)
    assert status == 0 and "11 of 11 answered" in out and "csr" in out and "self-agreement" in out
    assert "neva-tl validate-judge --judge wordlist --labels" in out
    assert "text 3 of 11" in err and "text 2 of 11" not in err
    assert len(LabelledTexts.load(run / "annotations" / "me.labels.jsonl")) == 10
    assert (run / "annotations" / "me.methods.csv").exists()


def test_back_skip_help_and_slips(call: Call, run: Path) -> None:
    status, _, err = call("annotate", run, "--n", 8, typed="1\nb\n2\nh\nzz\ns\n3\n")
    assert status == 0
    first, corrected, third = answers(run)
    assert first["item"] == corrected["item"] != third["item"]
    assert first["labels"]["self-direction"] == 1 and corrected["labels"]["stimulation"] == 1
    assert "'z' is not a key" in err and err.count("Which of these") == 2
    # end of input stops as q does; the skipped text comes first when one goes on
    _, _, err = call("annotate", run, typed="n\n")
    assert "text 2 of 9" in err and "2 answered" in err
    assert len(answers(run)) == 4


def test_json_holds_the_numbers_and_nothing_else_is_on_stdout(call: Call, run: Path) -> None:
    status, out, _ = call("annotate", run, "--n", 10, "--json", "--annotator", "ann-1", typed="5\n" * 11)
    found = json.loads(out)
    assert status == 0 and found["answered"] == found["asked"] == 11
    assert found["self_agreement"]["agreement"] == 1.0
    by_method = {row["method"]: row for row in found["methods"]}
    assert set(by_method) == {"neva", "caa"} and all(row["gain"] == 0.0 for row in by_method.values())
    assert {row["labels"]["power"] for row in answers(run, "ann-1")} == {1}


def test_wrong_use_is_one_line(call: Call, run: Path, tmp_path: Path) -> None:
    call("annotate", run, "--n", 10, typed="q\n")
    cases = [
        (("annotate", run, "--n", 12), "n was 10, now 12"),
        (("annotate", run, "--annotator", "../x"), "letters, digits"),
        (("annotate", tmp_path / "nothing"), "is not a run folder"),
    ]
    for argv, says in cases:
        status, out, err = call(*argv)
        assert status == 2 and says in err and len(err.strip().splitlines()) == 1 and out == ""


def test_through_a_real_pipe(run: Path) -> None:
    argv = [sys.executable, "-m", "neva_tl", "annotate", str(run), "--n", "6", "--json"]
    done = subprocess.run(argv, input="n\n" * 7, text=True, capture_output=True, cwd=ROOT, timeout=120)
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout)["answered"] == 7
