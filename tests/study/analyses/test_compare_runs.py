"""Two runs in one page: exact differences on hand-written cells, refusals, neurons, texts, settings."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pandas as pd
import pytest

from helpers import fake_run as fake
from helpers.written_cells import ADDED, BOTH, MEASURED, items, study
from neva_tl.core.errors import InputError
from neva_tl.study import StudyConfig
from neva_tl.study.analyses.compare_runs import compare_runs
from neva_tl.study.run.run_folder import RunFolder

MODEL = {"name": "demo", "n_layers": 4, "d_mlp": 100, "weights_hash": "w" * 64}
Make = Callable[..., Path]


@pytest.fixture
def make(tmp_path: Path) -> Make:
    """Writes a run whose CAA gains 0.5 + `more` on every value; further options replace entries of the manifest."""

    def make_(
        name: str, more: float = 0.0, *, judge: str = "exact", neurons: range = range(10), **manifest: Any
    ) -> Path:
        store = study(tmp_path / name, {"caa": BOTH}, relevance=False)
        for value in BOTH:
            added = list(ADDED["caa"][value])
            added[MEASURED.index(value)] += more
            store.write_table(f"cells/measure/caa/{value}@0.4.items", items(tuple(added)), csv=False)
        selected = [(value, "neva", 1, k) for value in BOTH for k in neurons]
        store.write_table("tables/neurons", pd.DataFrame(selected, columns=["value", "method", "layer", "neuron"]))
        texts = fake.generations()
        texts = texts[
            texts["method"].isin(["unedited", "caa"]) & (texts["steered"].isna() | (texts["steered"] == "power"))
        ]
        store.write_table("tables/generations", texts.assign(text=texts["text"] + f" in {name}"))
        store.write_json("results.json", {"judge": judge, "unit": "P"})
        config = StudyConfig(model="demo", prompts=f"/somewhere/secret/{name}.csv").to_json()
        about = {"study": "x", "config": config, "model": MODEL, "prompt_hash": "p", "values": list(MEASURED)}
        store.write_json("manifest.json", about | {"finished": True} | manifest)
        return tmp_path / name

    return make_


def measure(df: pd.DataFrame, **where: Any) -> pd.Series:
    for name, entry in where.items():
        df = df[df[name] == entry]
    assert len(df) == 1
    return df.iloc[0]


def test_differences_are_exact_and_paired(make: Make) -> None:
    comparison = compare_runs(make("one"), make("two", 0.2), n_boot=40)
    assert comparison.paired and comparison.names == ("one", "two") and comparison.values == BOTH
    gain = measure(comparison.measures, measure="gain")
    assert (gain["a"], gain["b"]) == (pytest.approx(0.5), pytest.approx(0.7))
    # the same noise in both: paired draws cancel it, so the interval has no width
    assert [gain[f"difference{end}"] for end in ("", "_lo", "_hi")] == pytest.approx([0.2] * 3)
    csr = measure(comparison.measures, measure="csr")
    assert csr["difference"] == pytest.approx(0.2) and csr["a_hi"] - csr["a_lo"] > 0.1
    assert csr["difference_hi"] - csr["difference_lo"] == pytest.approx(0, abs=1e-9)
    leakage = measure(comparison.measures, measure="leakage")
    assert leakage["a"] == pytest.approx((0.3 / 2 + 0.3 / 2) / 2) and leakage["difference"] == pytest.approx(
        0, abs=1e-9
    )
    nlr = measure(comparison.measures, measure="nlr")
    assert (nlr["a"], nlr["b"]) == (pytest.approx(0.3), pytest.approx(0.15 / 0.7))
    assert nlr["difference"] == pytest.approx(0.15 / 0.7 - 0.3)
    assert comparison.per_value["difference"].tolist() == pytest.approx([0.2, 0.2])
    assert measure(comparison.measures, measure="acc")["difference"] == 0


def test_other_prompts_leave_the_difference_without_an_interval(make: Make) -> None:
    comparison = compare_runs(make("one"), make("two", 0.2, prompt_hash="q"), n_boot=40)
    gain = measure(comparison.measures, measure="gain")
    assert not comparison.paired and gain["difference"] == pytest.approx(0.2) and pd.isna(gain["difference_lo"])
    assert not pd.isna(gain["a_lo"])


@pytest.mark.parametrize(
    ("options", "says"),
    [
        ({"judge": "wordlist"}, r"judges differ \(exact; wordlist\)"),
        (
            {"theory": "moral-foundations", "values": ["care", "fairness"]},
            r"theories differ \(schwartz; moral-foundations\)",
        ),
        ({"question": "Is this kind?"}, "different questions"),
        ({"prompt_hash": None}, "is not the manifest of a study"),
    ],
)
def test_what_cannot_be_compared_is_refused_in_one_line(make: Make, options: dict[str, Any], says: str) -> None:
    first = make("one", question="Is this good?")
    with pytest.raises(InputError, match=says) as refusal:
        compare_runs(first, make("two", **options))
    assert "\n" not in str(refusal.value)


def test_the_same_folder_and_runs_without_a_common_value_are_refused(make: Make) -> None:
    first, second = make("one"), make("two")
    with pytest.raises(InputError, match="same folder"):
        compare_runs(first, first)
    store = RunFolder(second)
    values = store.read_table("tables/values").assign(steered="benevolence")
    store.write_table("tables/values", values)
    with pytest.raises(InputError, match="no common value"):
        compare_runs(first, second)


def test_neurons_are_shared_within_one_model_only(make: Make) -> None:
    first = make("one")
    table = compare_runs(first, make("two", neurons=range(6, 14)), n_boot=10).neurons
    assert table is not None
    row = measure(table, value="power")
    assert (row["size_a"], row["size_b"], row["shared"]) == (10, 8, 4)
    assert row["expected"] == pytest.approx(10 * 8 / 400) and row["p_more"] < 1e-4
    other = compare_runs(first, make("three", model={**MODEL, "weights_hash": "v" * 64}), n_boot=10)
    assert other.neurons is None and any("different weights" in note for note in other.notes)


def test_texts_of_a_prompt_and_condition_are_paired(make: Make) -> None:
    pairs = compare_runs(make("one"), make("two"), n_boot=10).pairs
    assert pairs is not None and len(pairs) == 3 * (1 + 2)
    assert (pairs["before"].str.removesuffix("in one") == pairs["after"].str.removesuffix("in two")).all()
    edited = pairs[pairs["method"] == "caa"]
    assert set(edited["value"]) == {"power"} and sorted(set(edited["target"])) == [0.2, 0.4]
    assert pairs.loc[pairs["method"] == "unedited", "target"].isna().all()


def test_settings_and_page_name_no_folder(make: Make, tmp_path: Path) -> None:
    comparison = compare_runs(make("one"), make("two", 0.2, seed=3), n_boot=10)
    settings = comparison.settings.set_index("setting")
    assert settings.loc["config: prompts"].tolist() == ["one.csv", "two.csv"]
    assert settings.loc["seed", "b"] == "3" and len(settings) == 2
    page = comparison.save(tmp_path / "page.html").read_text(encoding="utf-8")
    assert "secret" not in page and str(tmp_path) not in page
    assert "one and two" in page and "two has the larger gain" in page
    assert "<script>alert" not in page and "http" not in page.replace("http-equiv", "")
