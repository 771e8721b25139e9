"""LaTeX of a run: its numbers are the run's numbers, its text is escaped, its structure holds."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

from helpers import fake_run as fake
from neva_tl.core.errors import InputError
from neva_tl.plots.overlap import overlaps
from neva_tl.plots.style import method_label
from neva_tl.study.paper import write_paper
from neva_tl.study.paper.latex import SPECIAL, escape
from neva_tl.study.paper.references import ENTRIES, OF_METHODS

NASTY = r"50%_of {a} $1 #2 & ~x^y \cmd"
CONFIG = {
    "model": "demo", "prompts": "/home/someone/my_pairs.csv", "judge": "exact", "profile": "quick",
    "values": ["power", "benevolence"], "methods": list(fake.LEAK), "selector": "effect_size", "k": 40, "scope": "last",
    "gate": "none", "seed": 7, "selection": {"lam": 0.5},
}  # fmt: skip


def a_run(folder: Path, **settings: Any) -> Path:
    """The made-up run with the settings of a study, and a model whose name LaTeX would read as commands."""
    run = fake.write_run(folder / "run")
    manifest = json.loads((run / "manifest.json").read_text())
    sizes = {"n_layers": 6, "d_mlp": 512}
    manifest |= {"config": CONFIG | settings, "model": {"name": NASTY, "weights_hash": "0" * 64, **sizes}}
    (run / "manifest.json").write_text(json.dumps(manifest))
    results = json.loads((run / "results.json").read_text())
    results["model"]["name"] = NASTY
    (run / "results.json").write_text(json.dumps(results))
    return run


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    run = a_run(tmp_path_factory.mktemp("paper"))
    write_paper(run)
    return run


def read(run: Path, name: str) -> str:
    return (run / "paper" / name).read_text("utf-8")


def environments(latex: str) -> list[str]:
    """Check that braces and environments close in order, and return the names of the environments."""
    latex = re.sub(r"(?<!\\)%.*", "", latex)
    names, opened, depth = [], [], 0
    for token in re.finditer(r"\\begin\{([^}]*)\}|\\end\{([^}]*)\}|\\[\\{}$&#%_]|([{}])", latex):
        begin, end, brace = token.groups()
        if begin:
            opened.append((begin, depth))
            names.append(begin)
        elif end:
            assert opened.pop() == (end, depth), f"{end} closes another environment"
        elif brace:
            depth += 1 if brace == "{" else -1
            assert depth >= 0
    assert not opened and depth == 0
    return names


def rows_of(latex: str, label: str) -> tuple[list[str], list[list[str]]]:
    """Return header and rows of a tabular, and check that every row has as many cells as the alignment has columns."""
    table = next(part for part in re.split(r"(?=\\begin\{table)", latex) if f"{{tab:{label}}}" in part)
    columns = len(re.search(r"\\begin\{tabular\}\{([lr]+)\}", table).group(1))
    body = table.split(r"\toprule")[1].split(r"\bottomrule")[0]
    lines = [line.removesuffix(r" \\") for line in body.splitlines() if line.endswith(r"\\")]
    cells = [[cell.strip() for cell in re.split(r"(?<!\\)&", line)] for line in lines]
    assert {len(row) for row in cells} == {columns}
    return cells[0], cells[1:]


def number(x: float, digits: int = 2) -> str:
    text = f"{x:.{digits}f}"
    return text.replace("-", "$-$") if float(text) else text.removeprefix("-")


def ranged(row: pd.Series, name: str) -> str:
    return f"{number(row[name])} [{number(row[f'{name}_lo'])}, {number(row[f'{name}_hi'])}]"


@pytest.mark.parametrize("name", ["tables.tex", "captions.tex", "methods.tex", "references.bib"])
def test_braces_and_environments_close_in_order(run: Path, name: str) -> None:
    names = environments(read(run, name))
    assert (len(names) >= 4) == (name in ("tables.tex", "captions.tex"))


def test_the_check_of_environments_can_fail() -> None:
    for broken in (r"\begin{table}{\end{table}}", r"\begin{a}\begin{b}\end{a}\end{b}", "{", "}", r"\begin{a}"):
        with pytest.raises((AssertionError, IndexError)):
            environments(broken)


def test_the_table_of_results_has_the_numbers_of_the_run(run: Path) -> None:
    header, rows = rows_of(read(run, "tables.tex"), "results")
    df = pd.read_parquet(run / "tables" / "methods.parquet")
    assert len(rows) == len(df)
    for _, row in df.iterrows():
        target = "own" if np.isnan(row["target_gain"]) else f"{row['target_gain']:.1f}"
        cells = next(
            dict(zip(header, cells, strict=True))
            for cells in rows
            if cells[0] == method_label(row["method"]) and cells[2] == target
        )
        assert cells["gain"] == ranged(row, "gain")
        assert cells["NLR"] == ("--" if np.isnan(row["nlr"]) else ranged(row, "nlr"))
    header, rows = rows_of(read(run, "tables.tex"), "cost")
    kl = {(cells[0], cells[1]): cells[header.index("KL")] for cells in rows}
    assert kl == {
        (method_label(row["method"]), "own" if np.isnan(row["target_gain"]) else f"{row['target_gain']:.1f}"): number(
            row["kl"], 3
        )
        for _, row in df.iterrows()
    }


def test_tables_per_value_and_of_neurons_have_the_numbers_of_the_run(run: Path) -> None:
    header, rows = rows_of(read(run, "tables.tex"), "values")
    df = pd.read_parquet(run / "tables" / "values.parquet")
    df = df[(df["method"] == "neva") & np.isclose(df["target_gain"].astype(float), 0.4)].set_index("steered")
    assert {cells[0] for cells in rows} == set(df.index)
    for cells in rows:
        assert dict(zip(header, cells, strict=True))["gain"] == ranged(df.loc[cells[0]], "gain")
    neurons = pd.read_parquet(run / "tables" / "neurons.parquet")
    neurons = (
        neurons[neurons["method"] == neurons["method"].iloc[0]]
        if "neva" not in set(neurons["method"])
        else neurons[neurons["method"] == "neva"]
    )
    _, rows = rows_of(read(run, "tables.tex"), "neurons")
    for value, size, _, best, g in rows:
        of_value = neurons[neurons["value"] == value]
        top = of_value.loc[of_value["g"].abs().idxmax()]
        assert (size, best) == (f"{len(of_value):,}", f"L{top['layer']}.{top['neuron']}")
        assert g.startswith(number(top["g"]))


def test_captions_have_the_numbers_of_the_run(run: Path) -> None:
    captions = dict(
        re.findall(r"\\includegraphics\[[^]]*\]\{(\w+)\.pdf\}\n\\caption\{(.*)\}\n", read(run, "captions.tex"))
    )
    methods = pd.read_parquet(run / "tables" / "methods.parquet")
    headline = methods[methods["target_gain"].isna() | np.isclose(methods["target_gain"], 0.4)]
    for _, row in headline.iterrows():
        assert f"{method_label(row['method'])}: gain {ranged(row, 'gain')}" in captions["gain_cost"]
    leakage = pd.read_parquet(run / "tables" / "leakage.parquet")
    for method in ("neva", "caa"):
        off = leakage[
            (leakage["method"] == method)
            & np.isclose(leakage["target_gain"], 0.4)
            & (leakage["steered"] != leakage["measured"])
        ]
        assert f"{(off['lo'] > 0).sum()} of {len(off)} other cells rise" in captions["leakage_heatmap"]
    neurons = pd.read_parquet(run / "tables" / "neurons.parquet")
    neurons = neurons[neurons["method"] == "neva"] if "neva" in set(neurons["method"]) else neurons
    pairs = overlaps(neurons, 6 * 512)
    assert str(int(pairs["shared"].max())) in captions["overlap"]
    layers = pd.read_parquet(run / "tables" / "layers.parquet")
    zero = layers[(layers["operation"] == "zero") & (layers["group"] == "selected")].groupby("layer")["d_csr"].mean()
    assert f"layer {zero.idxmin()} ({number(zero.min())})" in captions["layer_ablation"]
    counts = neurons["layer"].value_counts()
    assert f"{counts.max():,} of {len(neurons):,}" in captions["value_layers"]


def test_the_paragraph_on_methods_says_what_was_done(run: Path) -> None:
    text = read(run, "methods.tex")
    for fact in (
        "power and benevolence", "effect\\_size", "lam = 0.5", "at most 40 per value", "my\\_pairs.csv", "Seed 7", "1,000 draws",
        ".2 and .4", "48 validation and 60 test", "neva\\_tl 0.1.0",
    ):  # fmt: skip
        assert fact in text, fact
    assert "/home" not in text  # a folder of the author's machine


def test_every_citation_has_its_entry_and_every_entry_is_cited(run: Path) -> None:
    cited = {key for keys in re.findall(r"\\cite\{([^}]*)\}", read(run, "methods.tex")) for key in keys.split(",")}
    entries = set(re.findall(r"^@\w+\{(\S+),$", read(run, "references.bib"), re.MULTILINE))
    assert cited == entries and {"neva", "neva_tl", "transformerlens", "caa"} <= entries
    assert {key for keys in OF_METHODS.values() for key in keys} <= set(ENTRIES)


@pytest.mark.parametrize(
    ("settings", "key"),
    [
        ({"prompts": "valueeval:/data/v"}, "valueeval"),
        ({"prompts": "schwartz", "judge": "llm:qwen2.5-coder-1.5b#labels=persona:/data/p"}, "persona"),
        ({"model": "smollm2", "judge": "logprob"}, "smollm2"),
        ({"prompts": "my_personal_pairs.csv"}, ""),
    ],
)
def test_data_and_models_are_cited_where_they_were_used(tmp_path: Path, settings: dict[str, str], key: str) -> None:
    run = a_run(tmp_path, **settings)
    write_paper(run)
    entries = set(re.findall(r"^@\w+\{(\S+),$", read(run, "references.bib"), re.MULTILINE))
    assert entries & {"valueeval", "persona", "smollm2"} == ({key} if key else set())
    text = read(run, "methods.tex")
    assert {key for keys in re.findall(r"\\cite\{([^}]*)\}", text) for key in keys.split(",")} == entries
    assert "/data" not in text


def test_all_text_is_escaped(run: Path) -> None:
    for character in r"\{}$&#%_^~":
        assert escape(character) == SPECIAL[character] and escape(character) != character
    assert escape("a\n\u202eb\tc") == "a b c"
    assert escape("\u22120.5 \u2013") == "$-$0.5 --"
    assert escape(NASTY) in read(run, "captions.tex") and NASTY not in read(run, "captions.tex")


def test_one_value_and_a_run_without_most_tables(tmp_path: Path) -> None:
    run = a_run(tmp_path, values=["power"])
    for path in (run / "tables").glob("*.parquet"):
        table = pd.read_parquet(path)
        for column in ("steered", "measured", "value"):
            if column in table.columns and path.stem != "generations":
                table = table[table[column] == "power"]
        table.to_parquet(path)
        if path.stem not in ("methods", "leakage", "neurons"):
            path.unlink()
    write_paper(run)
    captions = read(run, "captions.tex")
    assert re.findall(r"\{(\w+)\.pdf\}", captions) == ["gain_cost", "value_layers"]
    assert "Leakage is" not in read(run, "methods.tex")
    assert set(re.findall(r"\\label\{tab:(\w+)\}", read(run, "tables.tex"))) == {"results", "cost", "neurons"}


def test_what_is_not_a_finished_run_is_one_line(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"results.json does not exist.*neva-tl run"):
        write_paper(tmp_path / "nowhere")
    run = a_run(tmp_path)
    (run / "results.json").write_text('{"methods": {}}')
    with pytest.raises(InputError, match="no measured methods"):
        write_paper(run)
    (run / "results.json").write_text("{")
    with pytest.raises(InputError, match="not JSON"):
        write_paper(run)
