"""Search on texts: figures against the stored texts, the rule for the best, resuming, and what is refused."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

import neva_tl as nv
from helpers.scripts import load_script
from neva_tl.core.errors import InputError
from neva_tl.editing import content_hash
from neva_tl.study.analyses.text_candidates import Candidate, candidates
from neva_tl.study.analyses.text_levels import compare_levels, interval_of_mean
from neva_tl.study.analyses.text_search import TextSearchConfig, TextSearchResult, search_texts
from neva_tl.study.run.run_folder import RunFolder
from neva_tl.study.run.scorers import Scorer

ON_DEMO = TextSearchConfig(
    "power", measured=("security",), selections=("write", "random"), k=(60,), ways=("shift", "no_repeat"), doses=(4.0, 16.0),
    n_prompts=24, max_new_tokens=14, samples=2, rows_per_value=30, n_boot=50,
)  # fmt: skip
TINY = TextSearchConfig(
    "power", judge="wordlist", measured=("tradition",), selections=("write", "regression_signed"), k=(6,),
    ways=("shift", "signed", "first", "fade_no_repeat", "context"), doses=(2.0,), methods=("role", "caa"),
    n_prompts=4, max_new_tokens=6, n_boot=20,
)  # fmt: skip


@pytest.fixture(scope="module")
def on_demo(demo: Any, tmp_path_factory: pytest.TempPathFactory) -> tuple[TextSearchResult, Path]:
    out = tmp_path_factory.mktemp("texts") / "demo"
    return search_texts(demo, "demo", out, ON_DEMO), out


@pytest.fixture(scope="module")
def on_tiny(
    tiny_model: Any, pairs_file: Path, tmp_path_factory: pytest.TempPathFactory
) -> tuple[TextSearchResult, Path]:
    out = tmp_path_factory.mktemp("texts") / "tiny"
    return search_texts(tiny_model, str(pairs_file), out, TINY), out


def test_writers_show_in_the_text_and_random_neurons_do_not(on_demo: tuple[TextSearchResult, Path]) -> None:
    result, _ = on_demo
    df, best = result.df, result.best
    assert result.judge == "exact" and set(df["selection"]) == {"write", "random", "role"}
    assert best is not None and best["selection"] == "write" and best["gain_lo"] > 0
    random = df[df["placebo"]]
    assert best["gain"] > random["gain"].max() + 0.05
    role = df[df["selection"] == "role"]
    assert len(role) == 1 and role["method"].item() and role["gain"].item() > 0
    good = df[df["admissible"] & ~df["method"] & ~df["placebo"]]
    assert best["gain"] == good["gain"].max() and df["best"].sum() == 1
    limit = result.unedited["invalid"] + 0.05 + 1e-9
    fluent = df["perplexity"] <= 1.3 * result.unedited["perplexity"]
    assert (df["admissible"] == ((df["invalid"] <= limit) & fluent)).all()


def test_figures_are_those_of_the_stored_texts(on_demo: tuple[TextSearchResult, Path], demo: Any) -> None:
    result, out = on_demo
    store, best = RunFolder(out), result.best
    assert best is not None and result.edit is not None
    before, after = store.read_table("cells/text/unedited.texts"), store.read_table(f"{best['cell']}.texts")
    prompts = nv.prompts.open_prompts("demo", "validation")["text"].head(24)
    assert before["prompt"].tolist() == after["prompt"].tolist() == [p for p in prompts for _ in range(2)]
    change = after["score_power"] - before["score_power"]
    assert best["gain"] == pytest.approx(change.mean())
    assert best["wrong"] == pytest.approx((change < 0).mean() + (change == 0).mean() / 2)
    leak = (after["score_security"] - before["score_security"]).mean()
    assert best["leakage_security"] == pytest.approx(leak) and best["leakage"] == pytest.approx(max(leak, 0))
    judge = nv.evaluation.load_judge("exact")
    scores = judge.score(list(after["text"]), list(after["prompt"]))[:, judge_index("power")]  # type: ignore[union-attr]
    np.testing.assert_allclose(np.where(after["valid"], scores, 0), after["score_power"])
    saved = nv.load_edit(out / "best", model=demo)
    assert content_hash(saved.edit) == content_hash(result.edit) and saved.edit.dose == best["dose"]


def test_the_card_of_the_best_edit_has_its_curve_in_the_text(on_demo: tuple[TextSearchResult, Path]) -> None:
    result, out = on_demo
    assert result.best is not None
    curve = result.df[result.df["candidate"] == result.best["candidate"]]
    measures = nv.load_edit(out / "best").about["measures"]
    assert [row["dose"] for row in measures["curves"][0]["rows"]] == sorted(curve["dose"])
    card = (out / "best" / "README.md").read_text()
    text = card[card.index("### In the text") :]
    assert "Judge exact, validation items" in text and text.count("| yes |") == int(curve["admissible"].sum())
    assert "gain on test items" in card[card.index("Not measured:") :]  # the search reads no test prompts


def judge_index(value: str) -> int:
    return nv.theories.SCHWARTZ.index(value)


def test_a_finished_search_measures_nothing_and_candidates_can_be_added(
    on_demo: tuple[TextSearchResult, Path], demo: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    first, out = on_demo
    observed: list[int] = []
    original = Scorer.observe_many

    def count(self: Scorer, conditions: Any, *args: Any) -> Any:
        observed.append(len(conditions))
        return original(self, conditions, *args)

    monkeypatch.setattr(Scorer, "observe_many", count)
    again = search_texts(demo, "demo", out, ON_DEMO)
    assert not observed
    pd.testing.assert_frame_equal(again.df, first.df)
    more = search_texts(demo, "demo", out, replace(ON_DEMO, ways=("shift", "no_repeat", "all"), doses=(4.0,)))
    assert sum(observed) == 2  # write and random, applied to all tokens, at one dose
    assert set(more.df["way"]) == {"shift", "no_repeat", "all", ""}


def test_a_killed_search_resumes(
    tiny_model: Any, pairs_file: Path, tmp_path: Path, on_tiny: tuple[TextSearchResult, Path], monkeypatch: Any
) -> None:
    original, calls = Scorer.observe_many, []

    def fragile(self: Scorer, *args: Any) -> Any:
        calls.append(1)
        if len(calls) == 2:
            raise KeyboardInterrupt
        return original(self, *args)

    monkeypatch.setattr(Scorer, "observe_many", fragile)
    with pytest.raises(KeyboardInterrupt):
        search_texts(tiny_model, str(pairs_file), tmp_path / "out", TINY)
    result = search_texts(tiny_model, str(pairs_file), tmp_path / "out", TINY)
    pd.testing.assert_frame_equal(result.df, on_tiny[0].df)


def test_every_way_and_method_on_a_chat_model(on_tiny: tuple[TextSearchResult, Path]) -> None:
    result, _ = on_tiny
    df = result.df
    assert result.judge.startswith("wordlist") and result.unit
    pairs = set(zip(df["selection"], df["way"], strict=True))
    ways = {"shift", "first", "fade_no_repeat", "context"}
    assert pairs == {
        *(("write", way) for way in ways), *(("regression_signed", way) for way in (*ways, "signed")), ("role", ""), ("caa", "")
    }  # fmt: skip
    assert (df.loc[df["way"] == "context", "unit"] == "log-odds").all()
    assert (df.loc[~df["method"], "neurons"] <= 6).all() and df.loc[df["method"], "neurons"].isna().all()
    assert set(result.levels["factor"]) == {"selection", "way"}
    assert result._repr_html_()


def test_levels_by_hand() -> None:
    topics = np.repeat(np.arange(12), 2).astype(str)
    rng = np.random.default_rng(0)
    noise = 0.01 * rng.normal(size=24)
    changes = {
        "a": np.full(24, 0.1),
        "b": np.full(24, 0.3) + noise,
        "c": np.full(24, 0.02),
        "d": np.full(24, 0.9),
        "r": noise,
    }
    rows = [
        ("write", 100, "shift", "a", True), ("write", 100, "fade", "b", True), ("write", 200, "shift", "c", True),
        ("write", 200, "fade", "d", False), ("random", 100, "shift", "r", True),
    ]  # fmt: skip
    df = pd.DataFrame(rows, columns=["selection", "k", "way", "cell", "admissible"])
    df = df.assign(candidate=df["cell"], dose=1.0, layers="all", leakage=0.0, repeated=0.0, perplexity=1.0)
    df = df.assign(placebo=df["selection"] == "random")
    means = [interval_of_mean(changes[name], topics, 50) for name in df["cell"]]
    df[["gain", "gain_lo", "gain_hi"]] = means
    levels = compare_levels(df, changes, topics, n_boot=200).set_index(["factor", "level"])
    assert levels.loc[("way", "fade"), "candidate"] == "b" and levels.loc[("way", "fade"), "helped"] == "yes"
    assert levels.loc[("way", "fade"), "difference"] == pytest.approx(0.2, abs=0.01)
    assert levels.loc[("k", "200"), "candidate"] == "c" and levels.loc[("k", "200"), "helped"] == "no"
    assert levels.loc[("k", "200"), ["cells", "admissible"]].tolist() == [2, 1]
    assert levels.loc[("selection", "random"), "helped"] == "no"
    assert levels.loc[("selection", "write"), "helped"] == "reference"
    assert "layers" not in levels.index.get_level_values("factor")
    one_bad = compare_levels(df.assign(admissible=df["way"] == "shift"), changes, topics, n_boot=20)
    assert one_bad.set_index(["factor", "level"]).loc[("way", "fade"), "helped"] == "nothing admissible"


def test_candidates_are_all_combinations() -> None:
    listed = candidates(("write", "regression_signed"), (10, 20, 10), ((0.25, 0.8), (0.0, 1.0)), ("shift", "signed"))
    assert len(listed) == len(set(listed)) == 2 * 2 * (1 + 2)
    assert Candidate("write", 10, (0.25, 0.8), "shift").name == "write-10-0_25-0_8-shift"
    with pytest.raises(InputError, match="fit together"):
        candidates(("write",), (10,), ((0.0, 1.0),), ("signed",))
    for wrong in ({"selections": ("wirte",)}, {"ways": ("shfit",)}, {"ks": (0,)}):
        options: dict[str, Any] = {"selections": ("write",), "ks": (3,), "depths": ((0.0, 1.0),), "ways": ("shift",)}
        with pytest.raises(InputError):
            candidates(**{**options, **wrong})


def test_refusals(tiny_model: Any, pairs_file: Path, tmp_path: Path, on_tiny: tuple[TextSearchResult, Path]) -> None:
    for changed, message in (
        ({"judge": "logprob"}, "name a judge of texts"),
        ({"value": "hedonism"}, "hold no hedonism"),
        ({"methods": ("caaa",)}, "caa"),
    ):
        with pytest.raises(InputError, match=message):
            search_texts(tiny_model, str(pairs_file), tmp_path / "new", replace(TINY, **changed))
    with pytest.raises(InputError, match="another study"):
        search_texts(tiny_model, str(pairs_file), on_tiny[1], replace(TINY, max_new_tokens=7))


def test_the_script(
    on_tiny: tuple[TextSearchResult, Path],
    checkpoint: Path,
    pairs_file: Path,
    tmp_path: Path,
    monkeypatch: Any,
    capsys: Any,
) -> None:
    script = load_script("text_search")
    base = ["text_search.py", "--model", str(checkpoint), "--prompts", str(pairs_file), "--value", "power"]
    small = ["--k", "5", "--selection", "write", "--way", "shift", "--dose", "2", "--questions", "3", "--tokens", "4"]
    monkeypatch.setattr("sys.argv", [*base, *small, "--draws", "20", "--out", str(tmp_path / "out")])
    assert script.main() == 0
    out = capsys.readouterr().out
    assert "write-5-0_25-0_8-shift" in out and "role" in out and "unedited: repeated" in out
    assert (tmp_path / "out/tables/text_search.csv").is_file()
    monkeypatch.setattr("sys.argv", [*base, "--depth", "half", "--out", str(tmp_path / "no")])
    assert script.main() == 2
    assert "FIRST:LAST" in capsys.readouterr().err
