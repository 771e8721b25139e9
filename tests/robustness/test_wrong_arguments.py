"""Wrong types, names and orders of arguments: taken where the meaning is plain, else one line that says what to pass."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch

import neva_tl as nv
from helpers import wrong_arguments
from helpers.contrast_sets import small_set
from helpers.wrong_arguments import Objects
from neva_tl.core.annotations import kind_of
from neva_tl.core.arguments import check_arguments
from neva_tl.core.errors import InputError
from neva_tl.core.kinds import Count, Level, Seed
from neva_tl.core.names import did_you_mean, spelling
from neva_tl.evaluation import ExactJudge
from neva_tl.models import inference

TESTS = Path(__file__).parent.parent


@pytest.fixture(scope="module")
def objects(tmp_path_factory: pytest.TempPathFactory) -> Objects:
    return Objects(tmp_path_factory.mktemp("wrong"))


@pytest.fixture(scope="module")
def demo_parts(demo: Any) -> dict[str, Any]:
    """Statistics, neurons and an edit of the demo model."""
    pairs = nv.prompts.load("demo", per_value=6)
    stats = nv.collect(demo, pairs, samples=True)
    options = {"method": "effect_size", "k": 8, "require_q": False, "require_split_half": False}
    neurons = nv.select(stats, "benevolence", **options)
    return {"pairs": pairs, "stats": stats, "neurons": neurons, "edit": nv.Amplify(neurons), "options": options}


# ---------------------------------------------------------------- the sweep


def test_every_public_call_takes_an_object_or_refuses_it_in_one_line(tmp_path: Path) -> None:
    """Each function, each parameter, each object of the pool, as users have it: without the type checker of the tests."""
    env = os.environ | {"PYTHONPATH": os.pathsep.join([str(TESTS.parent), str(TESTS)]), "HF_HUB_OFFLINE": "1"}
    script = TESTS / "helpers" / "wrong_arguments.py"
    run = subprocess.run(
        [sys.executable, str(script)], cwd=tmp_path, env=env, capture_output=True, text=True, check=False
    )
    assert run.returncode == 0, run.stderr[-2000:]
    result = json.loads(run.stdout.splitlines()[-1])
    assert result["functions"] > 100 and result["failures"] == []
    # files that do not exist yet, and an edit without probes; the sweep of any other would see its first refusal only
    allowed = {"stats.load", "NeuronSet.load", "RelevanceGate.load", "CircuitGraph.load", "ContextAware"}
    assert set(result["refused"]) <= allowed, result["refused"]


# ---------------------------------------------------------------- refused, with the reason


def refusals(o: Objects) -> dict[str, tuple[Callable[[], Any], str]]:
    model, neurons, stats, edit = o.model, o.neurons, o.stats, o.edit
    return {
        "texts for pairs": (lambda: nv.collect(model, ["a"]), r"pairs of collect\(\) is a list of str.*a ContrastSet"),
        "swapped": (lambda: nv.collect(o.pairs, model), r"are model and pairs swapped\?"),
        "a name for a model": (lambda: nv.collect("demo", o.pairs), r"load it first: nv\.load\('demo'\)"),
        "a transformers model": (lambda: nv.collect(model.original_model, o.pairs), r"nv\.edit_hf"),
        "a tokenizer": (lambda: nv.generate(nv.models.tokenizer(model), ["a"]), "it is a tokenizer"),
        "neurons for an edit": (lambda: nv.edit(model, neurons).__enter__(), r"nv\.Amplify\(neurons"),
        "a dict of edits": (lambda: nv.edit(model, {"power": edit}).__enter__(), "dict of Shift"),
        "a class": (lambda: nv.edit(model, nv.Ablate).__enter__(), r"make an instance: Ablate\(\.\.\.\)"),
        "a judge class": (lambda: nv.leakage(model, {"power": edit}, ["a"], ExactJudge), "make an instance: ExactJudge"),
        "a function": (lambda: nv.leakage(model, {"power": edit}, ["a"], len), "the function len: pass a judge"),
        "a judge's name": (lambda: nv.leakage(model, {"power": edit}, ["a"], "exakt"), "did you mean 'exact'"),
        "a judge of a model": (lambda: nv.leakage(model, {"power": edit}, ["a"], "logprob"), r"LogProbJudge\.fit"),
        "neurons for edits": (lambda: nv.leakage(model, {"power": neurons}, ["a"], "exact"), "nv.Amplify"),
        "an edit without a value": (
            lambda: nv.leakage(model, nv.RolePrompt("be kind"), ["a"], "exact"), "write {'VALUE': edit}"
        ),
        "a gate's name": (lambda: nv.Amplify(neurons, gate="relevance"), "gate of Shift is 'relevance'.*fit_relevance"),
        "a dose as text": (lambda: nv.Amplify(neurons, dose="4"), r"dose of Amplify\(\) is '4': pass a number"),
        "a dose that is not finite": (lambda: nv.Scale(neurons, dose=np.nan), "finite"),
        "a table for neurons": (lambda: nv.Amplify(neurons.df), r"nv\.NeuronSet\(value, method, df"),
        "an edit for neurons": (lambda: nv.Amplify(edit), "edit.neurons"),
        "statistics and value swapped": (lambda: nv.select("power", stats), "ActivationStats"),
        "a value that is none": (lambda: nv.select(stats, "benevolance"), "did you mean 'benevolence'"),
        "a method that is none": (lambda: nv.select(stats, "power", method="effect_sise"), "did you mean 'effect_size'"),
        "an option that is none": (lambda: nv.collect(model, o.pairs, poolling="mean"), "did you mean 'pooling'"),
        "an edit's option": (lambda: nv.Amplify(neurons, does=2.0), "did you mean 'dose'"),
        "a scope that is none": (lambda: nv.Amplify(neurons, scope="promt"), "did you mean 'prompt'"),
        "no model": (lambda: nv.capability(None, edit), "model of capability.. is None"),
        "a loaded transformers model": (lambda: nv.load(model.original_model), r"save_pretrained\(FOLDER\).*nv\.load"),
        "a device that is none": (lambda: nv.load("demo", device="gpu"), "write 'cpu'"),
        "a dtype that is none": (lambda: nv.load("demo", dtype="flaot32"), "did you mean 'float32'"),
        "a number for a model": (lambda: nv.load(3), r"write nv\.load\('demo'\)"),
        "a study of a table": (lambda: nv.Study(pd.DataFrame()), "string or a path"),
        "a method of a study": (lambda: nv.Study("demo", methods=["nevaa"]), "did you mean 'neva'"),
        "a value of a study": (lambda: nv.Study("demo", values=["benevolance"]), "did you mean 'benevolence'"),
        "a column of texts": (lambda: nv.generate(model, pd.DataFrame({"text": ["a"]})), "a DataFrame of 1 rows"),
        "a text for an example": (lambda: nv.answer_logprobs(model, ["a"]), "Example.*item 0 is 'a'"),
        "a number in an example": (lambda: nv.Example("a", 3), "answer of Example is 3"),
        "a seed for a generator": (
            lambda: nv.statistics.cluster_bootstrap(np.ones(3), None, rng=0), r"np\.random\.default_rng\(0\)"
        ),
        "a negative seed": (lambda: nv.generate(model, ["a"], seed=-1), "seed of generate.. is -1"),
        "questions for a path": (lambda: nv.NeuronSet.load(["a"]), "pass a path"),
        "an empty path": (lambda: neurons.save(""), "names no file"),
        "a level in per cent": (lambda: nv.effect_table(stats, "power", level=95), "between 0 and 1"),
    }  # fmt: skip


@pytest.mark.parametrize(
    "case", list(refusals(type("Names", (), dict.fromkeys(("model", "neurons", "stats", "edit")))()))
)  # type: ignore[arg-type]
def test_one_line_says_what_to_pass(objects: Objects, case: str) -> None:
    call, message = refusals(objects)[case]
    with pytest.raises(InputError, match=message) as caught:
        call()
    assert "\n" not in str(caught.value)


# ---------------------------------------------------------------- taken


def test_spellings_of_a_value_select_the_same_neurons(demo_parts: dict[str, Any]) -> None:
    stats, options = demo_parts["stats"], demo_parts["options"]
    expected = nv.select(stats, "self-direction", **options)
    for name in ("self_direction", "Self-Direction", "self direction", "SELFDIRECTION"):
        neurons = nv.select(stats, name, **options)
        assert neurons.value == "self-direction" and neurons.settings == expected.settings
        pd.testing.assert_frame_equal(neurons.df, expected.df)
    assert nv.select(stats, "Benevolence", **options | {"method": "Effect-Size"}).value == "benevolence"
    assert nv.values.value("Self_Direction").name == "self-direction"
    assert nv.prompts.words("Power") == nv.prompts.words("power")


def test_spellings_of_values_in_a_table_of_prompts() -> None:
    pairs = small_set()
    table = pairs.df.assign(value=pairs.df["value"].str.capitalize())
    assert nv.ContrastSet(table, "small").hash == pairs.hash
    assert nv.prompts.load(table).hash == pairs.hash
    assert nv.ContrastSet.from_rows(table, "small").for_value("POWER").values == ("power",)


def test_numbers_of_numpy_and_torch_give_what_python_numbers_give(demo_parts: dict[str, Any]) -> None:
    stats, options = demo_parts["stats"], demo_parts["options"] | {"k": 3}
    expected = nv.select(stats, "power", layers=(1, 2), **options)
    for k, layers in (
        (np.int64(3), np.array([1, 2])),
        (torch.tensor(3), range(1, 3)),
        (3.0, {1, 2}),
        (3, iter([1, 2])),
    ):
        neurons = nv.select(stats, "power", layers=layers, **options | {"k": k})
        pd.testing.assert_frame_equal(neurons.df, expected.df)
        assert json.dumps(neurons.settings) == json.dumps(expected.settings)
    edit = nv.Amplify(demo_parts["neurons"], dose=torch.tensor([2.0]))
    assert edit.dose == 2.0 and isinstance(edit.dose, float)
    assert nv.editing.content_hash(edit) == nv.editing.content_hash(nv.Amplify(demo_parts["neurons"], dose=2))


def test_a_single_edit_and_a_judge_s_name_for_leakage(demo: Any, demo_parts: dict[str, Any]) -> None:
    options: dict[str, Any] = {"n_boot": 20, "n_permutations": 9, "progress": False}
    prompts = nv.prompts.open_prompts("demo", "test")["text"][:4]
    expected = nv.leakage(demo, {"benevolence": demo_parts["edit"]}, prompts.tolist(), ExactJudge(), **options)
    for edits in (demo_parts["edit"], [demo_parts["edit"]], {"Benevolence": demo_parts["edit"]}):
        result = nv.leakage(demo, edits, prompts, "Exact", **options)
        pd.testing.assert_frame_equal(result.matrix, expected.matrix)


def test_lists_of_edits_and_none_in_one_block(demo: Any, demo_parts: dict[str, Any]) -> None:
    edit = demo_parts["edit"]
    texts = {}
    for name, edits in {"two": (edit, edit), "list": ([edit, edit],), "none": (None,), "nothing": ()}.items():
        with nv.edit(demo, *edits):
            texts[name] = nv.generate(demo, "mara says that", max_new_tokens=4)
    assert texts["two"] == texts["list"] and texts["none"] == texts["nothing"] and len(texts["two"]) == 1


def test_what_prompts_load_reads_is_taken_by_collect(objects: Objects, tmp_path: Path) -> None:
    file = objects.pairs.save(tmp_path / "pairs.csv")
    for spec in (file, str(file), objects.pairs.df):
        with pytest.raises(wrong_arguments.ReachedError):
            nv.collect(objects.model, spec)


def test_names_of_a_study_in_other_spellings() -> None:
    study = nv.Study(
        Path("demo"), prompts="Demo", judge="Exact", methods="NEVA-shift", values="Power", scope="Last", gate="None"
    )
    same = nv.Study(
        "demo", methods=("neva_shift",), values=("power",), judge="exact", scope="last", gate="none", prompts="demo"
    )
    assert study.config.methods == ("neva_shift",) and study.config.values == ("power",)
    assert (study.config.judge, study.config.scope, study.config.gate) == ("exact", "last", "none")
    assert same.config.scope == study.config.scope


def test_arrays_where_arrays_are_annotated() -> None:
    expected = nv.statistics.spearman(np.array([1.0, 2.0, 4.0]), np.array([1.0, 3.0, 2.0]))
    assert nv.statistics.spearman([1, 2, 4], pd.Series([1, 3, 2])) == expected
    assert nv.statistics.spearman(torch.tensor([1.0, 2.0, 4.0]), (1.0, 3.0, 2.0)) == expected


def test_argv_that_is_not_utf8(call: Callable[..., tuple[int, str, str]]) -> None:
    status, out, err = call("collect", "--model", "d\udce9mo", "--out", "x")
    assert status == 2 and not out and err.count("\n") == 1 and "not UTF-8" in err
    run = subprocess.run(
        [sys.executable, "-m", "neva_tl", "run", b"--model=\xff\xfe"],
        env=os.environ | {"PYTHONPATH": str(TESTS.parent)}, capture_output=True, check=False,
    )  # fmt: skip
    assert run.returncode == 2 and run.stderr.count(b"\n") == 1 and b"not UTF-8" in run.stderr


# ---------------------------------------------------------------- the module


def test_spelling_and_did_you_mean() -> None:
    assert spelling("Self–Direction", nv.VALUES) == "self-direction"
    assert spelling("selfdirections", nv.VALUES) is None and spelling(None, nv.VALUES) is None
    assert spelling("-", ["a-b"]) is None and spelling("A_B", ["a-b", "a_b"]) is None
    assert did_you_mean("universalsim", nv.VALUES) == "did you mean 'universalism'? "
    assert did_you_mean("kindness", nv.VALUES) == "" == did_you_mean(3, nv.VALUES)


@check_arguments
def example_call(
    items: list[str], n: Count = 1, level: Level = 0.5, seed: Seed = 0, flag: bool = True, *more: float, **rest: int
) -> tuple[Any, ...]:
    """A function with all kinds of parameters."""
    return items, n, level, seed, flag, more, rest


def test_conversion_keeps_what_fits() -> None:
    items = ["a"]
    assert example_call(items)[0] is items
    assert example_call("a", np.int8(2), 0.25, 2.0, np.True_, 3, x=4) == (["a"], 2, 0.25, 2, True, (3.0,), {"x": 4})
    assert example_call(np.array(["a", "b"]))[0] == ["a", "b"]
    with pytest.raises(TypeError, match="missing"):  # Python's own words
        example_call()  # type: ignore[call-arg]
    for wrong in ({"n": 0}, {"n": 1.5}, {"n": True}, {"level": 1}, {"seed": 2**63}, {"flag": "yes"}, {"x": "1"}):
        with pytest.raises(InputError, match=rf"{next(iter(wrong))} of example_call\(\) is"):
            example_call(items, **wrong)  # type: ignore[arg-type]


def test_an_annotation_for_type_checkers_only_accepts_everything() -> None:
    assert kind_of(Any) is None and kind_of("Unknown") is None and kind_of(object) is None


def test_a_users_edit_is_checked_too(objects: Objects) -> None:
    from dataclasses import dataclass

    from neva_tl.editing import NeuronEdit

    @dataclass(frozen=True, eq=False)
    class Mine(NeuronEdit):
        """An edit of a user."""

    assert Mine(objects.neurons, dose=2).dose == 2.0
    with pytest.raises(InputError, match="dose of Mine"):
        Mine(objects.neurons, dose="2")


def test_inference_takes_one_prompt(objects: Objects) -> None:
    batch = inference.encode(objects.model, objects.example)
    assert len(batch.tokens) == 1
