"""The card of a saved edit: what was measured, what was not, and no README of another hand is lost."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import yaml

from neva_tl.editing import AddVector, RolePrompt
from neva_tl.editing.readme import README, card_text
from neva_tl.editing.saved import save_edit

GAIN = {"est": 0.41, "lo": 0.11, "hi": 0.7, "n": 18}
MEASURES: dict[str, Any] = {
    "judge": "logprob",
    "unit": "SD",
    "status": "reached",
    "target": 0.4,
    "validation_gain": 0.4,
    "gain": GAIN,
    "wrong_way": {"est": 0.2, "lo": 0.1, "hi": 0.3},
    "control": {"est": 0.3, "lo": 0.1, "hi": 0.5, "n": 18},
    "curves": [
        {
            "judge": "logprob",
            "unit": "SD",
            "rows": [
                {"dose": 2.0, "gain": 0.1, "invalid": 0.0, "admissible": True},
                {"dose": 3.0, "gain": 0.5, "invalid": 0.25, "admissible": False},
            ],
        }
    ],
    "leakage": {
        "mean": {"est": 0.05},
        "rows": [{"measured": "thrift", "d": 0.41}, {"measured": "power", "d": 0.05, "lo": -0.1, "hi": 0.2}],
    },
    "cost": [{"name": "perplexity", "unedited": 7.0, "edited": 8.5}],
    "texts": [{"prompt": "Mia has ten coins.", "unedited": "She spends them.", "edited": "She saves them."}],
}
MODEL = {"name": "org/model", "dtype": "bfloat16", "n_layers": 2, "weights_hash": "ab" * 32}
EDIT = AddVector({0: np.ones(4)}, dose=3.0)


def card(**changes: Any) -> str:
    measures = {**MEASURES, **changes}
    return card_text(
        EDIT, MODEL, {"value": "thrift", "method": "caa", "measures": measures}, {"prompt_hash": "cd" * 32}
    )


def test_the_front_matter_is_what_the_hub_reads() -> None:
    head = yaml.safe_load(card().split("---")[1])
    assert (head["library_name"], head["base_model"], head["license"]) == ("neva_tl", "org/model", "other")
    assert "thrift" in head["tags"]
    local = yaml.safe_load(
        card_text(EDIT, {**MODEL, "folder": "/home/me/org/model"}, {"license": "mit"}, {}).split("---")[1]
    )
    assert "base_model" not in local and local["license"] == "mit"


def test_every_measure_is_shown() -> None:
    text = card()
    for part in (
        "| gain on test items | 0.41 [0.11, 0.70], n = 18 |",
        "| 2 | 0.10 | not measured | yes |",
        "| 3 (this edit) | 0.50 | 25 % | no |",
        "| change | 0.41 | 0.05 [−0.10, 0.20] |",
        "| perplexity | 7.00 | 8.50 |",
        "| thrift | She saves them. |",
        "can measure the value on this model",
        "hash cdcdcdcdcdcdcdcd",
        'nv.attach(hf_model, "FOLDER")',
        'from_pretrained("org/model", dtype="bfloat16")',
        "neva-tl generate",
        "Not measured: dose against gain in the text.",
    ):
        assert part in text, part


def test_what_was_not_measured_is_named() -> None:
    text = card(leakage={}, cost=[], texts=[], control=None, curves=[])
    names = "dose against gain in log-probability, dose against gain in the text, leakage to other values, positive control, "
    assert f"Not measured: {names}capability and fluency, texts." in text
    bare = card_text(RolePrompt("Be kind."), {}, {}, {})
    assert "It was saved without measurements." in bare and "The folder records no model" in bare
    assert bare.count("Not measured.") == 4


def test_weak_results_are_called_weak() -> None:
    text = card(gain={**GAIN, "lo": -0.1}, control={"est": 0.0, "lo": -0.1, "hi": 0.1}, status="unreached")
    assert "The interval of the gain reaches 0" in text
    assert text.count("positive control fails") == 2
    assert "was not reached at an admissible dose" in text


def test_a_readme_of_another_hand_stays(tmp_path: Path) -> None:
    (tmp_path / README).write_text("# My own notes\n")
    save_edit(EDIT, tmp_path)
    assert (tmp_path / README).read_text() == "# My own notes\n"
    (tmp_path / README).unlink()
    save_edit(EDIT, tmp_path, about={"value": "thrift"})
    save_edit(EDIT, tmp_path, about={"value": "power"})
    assert "# power: a steering edit" in (tmp_path / README).read_text()
