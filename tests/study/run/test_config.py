"""StudyConfig: every `auto` decided, bad options refused, and an identity that no option escapes."""

from __future__ import annotations

from dataclasses import fields, replace
from pathlib import Path
from typing import Any

import pytest

from neva_tl import models
from neva_tl.core.auto import ELSEWHERE, ON_DEMO
from neva_tl.core.errors import InputError
from neva_tl.core.values import VALUES
from neva_tl.models.tiny import tiny_checkpoint
from neva_tl.study import METHODS, PROFILES, StudyConfig

#: One other setting of every option.
OTHER: dict[str, Any] = {
    "model": "stories",
    "prompts": "schwartz",
    "judge": "wordlist",
    "profile": "full",
    "values": ("power",),
    "methods": ("caa",),
    "selector": "effect_size",
    "selection": {"lam": 0.5},
    "k": 5,
    "scope": "last",
    "gate": "relevance",
    "seed": 1,
    "dtype": "bfloat16",
    "matmul": "bf16",
    "chat": False,
    "overrides": {"test": 7},
    "sae": "folder",
    "theory": "moral-foundations",
}


def test_auto_is_decided_by_the_model() -> None:
    demo = StudyConfig().resolved()
    assert (demo.prompts, demo.judge, demo.scope, demo.kind) == ("demo", "exact", "last", "text")
    assert (demo.gate, demo.k, demo.selection) == ("relevance", 400, {"lam": 0.0, "lam_write": 0.0})
    assert demo.selection == ON_DEMO.settings("neva").options and demo.pooling == "last"
    real = StudyConfig("smollm2").resolved()
    assert (real.prompts, real.judge, real.scope, real.kind) == ("schwartz", "logprob", "generated", "model")
    assert (real.gate, real.k, real.selection) == ("none", None, {"lam": 0.0, "require_q": False})
    assert real.selection == ELSEWHERE.settings("margin").options and real.pooling == "mean"
    assert StudyConfig("smollm2", selector="effect_size").resolved().selection == {}
    assert real.resolved() == real and real.token_scope() == "generated"
    chosen = StudyConfig("smollm2", prompts="a.csv", judge="wordlist", scope="all").resolved()
    assert (chosen.prompts, chosen.judge, chosen.scope, chosen.kind) == ("a.csv", "wordlist", "all", "text")


def test_values_stand_in_circle_order() -> None:
    assert StudyConfig(values=("universalism", "power")).resolved().values == ("power", "universalism")
    assert StudyConfig().resolved().values == VALUES


@pytest.mark.parametrize(
    ("option", "line"),
    [
        ({"judge": "oracle"}, "unknown judge 'oracle'"),
        ({"model": "smollm2", "judge": "exact"}, "exact judge knows only the demo"),
        ({"scope": "everywhere"}, "unknown token scope"),
        ({"gate": "garden"}, "unknown gate 'garden'"),
        ({"profile": "huge"}, "unknown profile"),
        ({"methods": ("neva", "magic")}, "unknown method 'magic'"),
        ({"values": ("power", "greed")}, "greed"),
        ({"selector": "guess"}, "unknown selector 'guess'"),
        ({"k": 0}, "k is a positive number"),
        ({"matmul": "bf17"}, "unknown matmul 'bf17': choose float32 or bf16"),
        ({"matmul": "bf16", "dtype": "bfloat16"}, "matmul='bf16' is for models in float32, not bfloat16"),
    ],
)
def test_unknown_options_are_refused(option: dict[str, Any], line: str) -> None:
    with pytest.raises(InputError, match=line):
        StudyConfig(**option).resolved()


def test_overrides_change_the_profile_and_nothing_else() -> None:
    base, changed = StudyConfig().spending(), StudyConfig(overrides={"test": 5, "refine": 1}).spending()
    assert base == PROFILES["text", "quick"] and changed == replace(base, test=5, refine=1)
    assert StudyConfig("smollm2", profile="full").resolved().spending() == PROFILES["model", "full"]
    with pytest.raises(InputError, match="profile setting among tests"):
        StudyConfig(overrides={"tests": 5}).spending()


@pytest.mark.parametrize("targets", [(), (0.0,), (-0.2, 0.4), (float("nan"),), (float("inf"),)])
def test_target_gains_are_above_zero(targets: tuple[float, ...]) -> None:
    with pytest.raises(InputError, match="target gains"):
        StudyConfig(overrides={"targets": targets}).spending()


def test_target_gains_ascend() -> None:
    """Cells are named after the target and the last one is the headline, so 1 is 1.0 and order does not matter."""
    for targets in ((1, 0.2), [0.2, 1]):
        assert StudyConfig(overrides={"targets": targets}).spending().targets == (0.2, 1.0)
    with pytest.raises(InputError, match="profile setting"):
        StudyConfig(overrides={"targets": ("much",)}).spending()


def test_every_option_but_the_methods_changes_the_identity() -> None:
    assert set(OTHER) == {field.name for field in fields(StudyConfig)}
    base = StudyConfig(prompts="pairs.csv", judge="logprob", scope="all", gate="none")
    hashes = {name: replace(base, **{name: other}).hash() for name, other in OTHER.items()}
    assert hashes.pop("methods") == base.hash()  # a folder takes further methods
    assert len({base.hash(), *hashes.values()}) == len(OTHER)


def test_the_precision_of_products_is_stored_only_where_it_differs() -> None:
    """Studies of earlier versions keep their identity, and their manifests can be read."""
    base, changed = StudyConfig("smollm2"), StudyConfig("smollm2", matmul="bf16")
    assert "matmul" not in base.to_json() and changed.to_json() == {**base.to_json(), "matmul": "bf16"}
    assert StudyConfig.from_manifest(base.to_json()).matmul == "float32"
    assert StudyConfig.from_manifest(changed.to_json()) == StudyConfig.from_manifest(
        base.to_json() | {"matmul": "bf16"}
    )
    assert base.hash() != changed.hash()


def test_a_study_loads_its_model_in_its_precision(tmp_path: Path) -> None:
    folder = tiny_checkpoint(tmp_path / "tiny", n_layers=1)
    model = StudyConfig(str(folder), matmul="bf16").load_model()
    assert models.fingerprint(model)["matmul"] == "bf16"
    assert "matmul" not in models.fingerprint(StudyConfig("other").load_model(str(folder)))


def test_neurons_are_chosen_by_what_they_write_on_real_models_and_a_named_selector_stays() -> None:
    assert StudyConfig().resolved().selector == "neva" and StudyConfig("smollm2").resolved().selector == "margin"
    named = StudyConfig("smollm2", selector="neva").resolved()
    assert named.selector == "neva" and named.selection == {"lam": 0.0, "lam_write": 0.0, "require_q": False}
    assert StudyConfig("smollm2", selection={"lam": 1.0}).resolved().selection == {"lam": 1.0}


def test_identity_is_that_of_the_decided_study() -> None:
    assert StudyConfig().hash() == StudyConfig(prompts="demo", judge="exact", scope="last", gate="relevance").hash()
    assert StudyConfig().hash() == StudyConfig(values=VALUES[::-1]).hash()
    assert StudyConfig().hash() == StudyConfig(methods=METHODS).hash()


def test_a_local_folder_is_named_without_its_path(tmp_path: Path) -> None:
    (tmp_path / "mine").mkdir()
    data = StudyConfig(str(tmp_path / "mine"), prompts="schwartz").resolved().to_json()
    assert data["model"] == "mine" and data["values"] == list(VALUES)
