"""Correction of a run folder whose judge is known to mix values up."""

from __future__ import annotations

import csv
import json
import sys
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from helpers.scripts import load_script
from neva_tl.core.errors import InputError
from neva_tl.core.values import VALUES
from neva_tl.evaluation.judges.registry import JUDGES
from neva_tl.study import Study, StudyResult
from neva_tl.study.analyses import correction
from neva_tl.study.run.config import StudyConfig
from neva_tl.study.run.run_folder import RunFolder

STEERED = ("power", "security")
TOPICS, PER_TOPIC = 10, 4
#: The judge reads each value at .8 and its clockwise neighbour at .4 of that.
M = 0.8 * np.eye(10) + 0.32 * np.roll(np.eye(10), 1, axis=1)


class Muddled:
    """Reads texts that name their values ("power tradition"); takes each for its neighbour too."""

    name, unit, labels = "muddled", "points", ""

    def score(self, texts, prompts=None):
        there = np.array([[float(name in text.split()) for name in VALUES] for text in texts]).reshape(-1, 10)
        return there @ M / 2

    def oppose(self, texts, prompts=None):
        return None

    def valid(self, texts, prompts=None):
        return np.ones(len(texts), dtype=bool)


def labelled_rows(n: int = 200) -> list[dict[str, object]]:
    rng = np.random.default_rng(0)
    there = rng.random((n, 10)) < 0.25
    there |= np.roll(there, 1, axis=1) & (rng.random((n, 10)) < 0.5)  # neighbours really occur together
    return [
        {"text": f"{k} " + " ".join(np.array(VALUES)[row]), "cluster": f"c{k % 25}", "split": "test"}
        | dict(zip(VALUES, row.astype(int).tolist(), strict=True))
        for k, row in enumerate(there)
    ]


@pytest.fixture
def labels(tmp_path: Path) -> Path:
    """Fully labelled texts."""
    file = tmp_path / "labels.csv"
    with file.open("w", newline="", encoding="utf-8") as handle:
        table = csv.DictWriter(handle, fieldnames=["text", "cluster", "split", *VALUES])
        table.writeheader()
        table.writerows(labelled_rows())
    return file


def items(shift: np.ndarray) -> pd.DataFrame:
    n = TOPICS * PER_TOPIC
    frames = [
        pd.DataFrame(
            {
                "kind": "score",
                "measured": name,
                "item": range(n),
                "cluster": [f"t{k % TOPICS}" for k in range(n)],
                "score": np.random.default_rng(j).uniform(0, 0.3, n) + shift[j],
            }
        )
        for j, name in enumerate(VALUES)
    ]
    return pd.concat(frames, ignore_index=True)


#: What each method truly adds: nothing but the target, and the target with universalism.
TRUTH = {"neva": {v: 0.4 * np.eye(10)[VALUES.index(v)] for v in STEERED}}
TRUTH["caa"] = {v: d + 0.2 * np.eye(10)[VALUES.index("universalism")] for v, d in TRUTH["neva"].items()}


@pytest.fixture
def run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A finished run whose item scores are the truth seen through the muddled judge."""
    return make_run(tmp_path / "run", monkeypatch)


def make_run(folder: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setitem(JUDGES, "muddled", (f"{__name__}:Muddled", ""))
    config = StudyConfig(model="smollm2", judge="muddled", overrides={"n_boot": 60, "targets": (0.2, 0.4)})
    store = RunFolder.open(folder, {"study": "x"})
    store.write_json("manifest.json", {"study": "x", "config": config.to_json(), "seed": 0})
    store.write_json("results.json", {"judge": "muddled", "unit": "points"})
    store.write_table("cells/base.items", items(np.zeros(10)), csv=False)
    rows = []
    for method, targets in (("neva", (0.2, 0.4)), ("caa", (0.2, 0.4)), ("role", (None,))):
        for target in targets:
            for value in STEERED:
                true = TRUTH["neva" if method == "role" else method][value] * (target or 0.4) / 0.4
                store.write_table(f"cells/measure/{method}/{value}@{target}.items", items(true @ M / 2), csv=False)
                rows.append({"method": method, "steered": value, "measured": value, "d": 0.0, "target_gain": target})
    store.write_table("tables/leakage", pd.DataFrame(rows))
    return folder


def test_the_truth_comes_back_and_what_confusion_made_is_named(run: Path, labels: Path) -> None:
    found = correction.corrected(run, "neva", Muddled(), labels)
    for i, value in enumerate(STEERED):
        np.testing.assert_allclose(found.matrix.to_numpy()[i], TRUTH["neva"][value], atol=1e-9)
        np.testing.assert_allclose(found.raw.matrix.to_numpy()[i], TRUTH["neva"][value] @ M / 2, atol=1e-9)
    assert found.share.est == pytest.approx(1.0) and found.corrected.nlr.est == pytest.approx(0.0, abs=1e-9)
    assert found.raw.nlr.est == pytest.approx(0.4 / 9)
    # caa really raises universalism too (.2, seen as .08, and as .032 at its neighbour); confusion made .064 of the rest
    caa = correction.corrected(run, "caa", Muddled(), labels)
    assert caa.corrected.nlr.est == pytest.approx((0.2 / 9) / 0.4)
    assert caa.share.est == pytest.approx(0.064 / (0.064 + 0.08 + 0.032))


def test_the_largest_gain_is_taken_unless_another_is_asked_for(run: Path, labels: Path) -> None:
    assert correction.headline_target(run, "neva") == 0.4 and correction.headline_target(run, "role") is None
    low = correction.corrected(run, "neva", "muddled", labels, target=0.2)
    assert low.corrected.gain.est == pytest.approx(0.2)
    assert correction.corrected(run, "role", "muddled", labels).corrected.gain.est == pytest.approx(0.4)


def test_what_is_written_can_be_read_without_us(run: Path, labels: Path) -> None:
    judged = correction.judged_labels(Muddled(), labels)
    found = [(correction.corrected(run, m, labels=judged), 0.4) for m in ("neva", "caa")]
    correction.write(run, found)
    record = json.loads((run / "correction.json").read_text())
    assert record["judge"] == "muddled" and record["texts"] == 200 and "may not carry over" in record["note"]
    assert record["condition"]["est"] == pytest.approx(np.linalg.cond(M))
    assert [m["method"] for m in record["methods"]] == ["neva", "caa"]
    assert record["methods"][0]["shares"]["power"]["est"] == pytest.approx(1.0)
    table = pd.read_csv(run / "tables" / "leakage_corrected.csv")
    assert len(table) == 2 * 2 * 10 and {"d", "lo", "hi", "corrected", "corrected_lo", "corrected_hi"} <= set(
        table.columns
    )
    assert len(pd.read_csv(run / "tables" / "judge_mixing.csv")) == 100
    assert set(pd.read_csv(run / "tables" / "csr_corrected.csv")["condition"]) == {"unedited", "edited"}


def test_a_judge_that_names_its_own_labels_needs_none(run: Path, labels: Path) -> None:
    judge = Muddled()
    with pytest.raises(InputError, match="names no labelled texts"):
        correction.corrected(run, "neva", judge)
    judge.labels = str(labels)
    assert correction.corrected(run, "neva", judge).share.est == pytest.approx(1.0)


def test_what_cannot_be_corrected_is_refused(run: Path, labels: Path, tmp_path: Path) -> None:
    with pytest.raises(InputError, match="no finished study"):
        correction.corrected(tmp_path / "none", "caa", labels=labels)
    with pytest.raises(InputError, match="did not measure lape"):
        correction.corrected(run, "lape", Muddled(), labels)
    with pytest.raises(InputError, match=r"at gain 0\.3"):
        correction.corrected(run, "neva", Muddled(), labels, target=0.3)
    with pytest.raises(InputError, match="same judge"):
        correction.corrected(run, "neva", "wordlist", make_words(tmp_path))
    with pytest.raises(InputError, match="asks the model itself"):
        correction.prepared("smollm2", "auto", str(labels))
    assert correction.prepared("demo", "wordlist", None) is None


def make_words(folder: Path) -> Path:
    """Labelled texts made of half-B words, which the word-list judge can read."""
    from neva_tl import prompts

    words = {name: prompts.words(name, half="B")[0] for name in VALUES}
    file = folder / "words.jsonl"
    rows = [
        {**row, "text": " ".join([str(k), *(words[v] for v in VALUES if row[v])])}
        for k, row in enumerate(labelled_rows())
    ]
    file.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return file


# ---------------------------------------------------------------- commands


def test_the_command_prints_both_matrices(run: Path, labels: Path, call, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Study, "run", lambda self, out, progress: StudyResult(run))
    monkeypatch.setattr(StudyResult, "text", lambda self: "")
    monkeypatch.setattr("neva_tl.study.run.preflight.check_study", lambda config, out: None)  # the run is made by hand
    argv = ("leakage", "--model", "smollm2", "--judge", "muddled", "--method", "neva", "--out", run, "--labels", labels)
    status, out, err = call(*argv)
    assert status == 0, err
    for part in (
        "D of neva, raw",
        "D of neva, corrected",
        "condition number",
        "confusion alone explains: 1.00",
        "carry over",
    ):
        assert part in out
    status, out, _ = call(*argv, "--json")
    found = json.loads(out)
    assert found["correction"]["methods"][0]["share"]["est"] == pytest.approx(1.0)
    assert (run / "correction.json").exists()


def test_bad_labels_are_refused_before_the_study(
    run: Path, call, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Study, "run", lambda *_, **__: pytest.fail("the study ran"))
    few = tmp_path / "few.csv"
    few.write_text("text,split," + ",".join(VALUES) + "\n" + "a b,test" + ",0" * 10 + "\n")
    for judge, labels, says in (("muddled", few, "too few labels"), ("logprob", few, "asks the model itself")):
        status, _, err = call(
            "leakage", "--model", "smollm2", "--judge", judge, "--labels", labels, "--out", tmp_path / "o"
        )
        assert status == 2 and says in err


def test_the_analysis_script_corrects_every_method(run: Path, labels: Path, monkeypatch, capsys) -> None:
    module = load_script("judge_correction")
    monkeypatch.setattr(sys, "argv", ["judge_correction.py", str(run), "--labels", str(labels)])
    assert module.script("judge_correction", module.__doc__, module.act, module.options) == 0
    out = capsys.readouterr().out
    assert all(f"{name}: NLR" in out for name in ("neva", "caa", "role"))
    assert len(json.loads((run / "correction.json").read_text())["methods"]) == 3


def test_a_run_of_a_judge_that_reads_no_texts_is_refused(run: Path, labels: Path) -> None:
    store = RunFolder(run)
    manifest = store.read_json("manifest.json")
    store.write_json("manifest.json", {**manifest, "config": {**manifest["config"], "judge": "logprob"}})
    with pytest.raises(InputError, match="reads no texts"):
        correction.corrected(run, "caa", labels=labels)
