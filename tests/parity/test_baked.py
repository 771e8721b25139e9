"""A baked checkpoint computes what the model computes under the edit: logits to 1e-5, the same greedy tokens; or is refused.

Oracle: transformers' own model inside `edit_hf`. The table of docs/bake.md is compared with what was measured;
`NEVA_TL_WRITE_DOCS=1` writes it again.
"""

from __future__ import annotations

import os
from functools import cache
from pathlib import Path

import pytest

from helpers.architectures import ARCHITECTURES, Architecture, save
from helpers.baking import edits_of, greedy, load_plain, logits
from helpers.paths import ROOT
from neva_tl.core.errors import InputError
from neva_tl.editing.bake.write import bake

LIMIT = 1e-5
DOCUMENT = ROOT / "docs" / "bake.md"
BEGIN, END = "<!-- bake:begin -->", "<!-- bake:end -->"
FAMILIES = (
    *("Llama", "Mistral", "Qwen 2", "Qwen 3", "Gemma 1", "Gemma 2", "Gemma 3", "Phi", "Phi-3", "GPT-2", "GPT-NeoX"),
    *("BLOOM", "OPT", "Granite", "OLMo 2"),
)
#: Variants that change nothing about where weights hold an edit.
NOT_TRIED = ("with images", "attention scaled by layer", "rope scaled as in Llama 3")
_MISTRAL = next(item for item in ARCHITECTURES if item.family == "Mistral")
ITEMS = (
    Architecture("Mistral", "no window", "Mistral", {**_MISTRAL.fields, "sliding_window": None}),
    *(item for item in ARCHITECTURES if not item.refusal and item.family in FAMILIES and item.variant not in NOT_TRIED),
)
EDITS = ("Shift", "Scale", "Ablate, zero", "Ablate, mean", "AddVector", "Shift, Scale, AddVector, Shift")


@pytest.fixture(scope="module")
def outcomes(tmp_path_factory: pytest.TempPathFactory) -> object:
    """Measure a configuration once."""
    root = tmp_path_factory.mktemp("baked")

    @cache
    def outcome(index: int) -> dict[str, str]:
        return measure(ITEMS[index], root / str(index))

    return outcome


def measure(item: Architecture, root: Path) -> dict[str, str]:
    """Edit -> `equal` with the class it is written as, or why it is refused; a difference fails here."""
    hf = load_plain(save(item, root / "model"))
    unedited, out = logits(hf), {}
    refusals: list[str] = []
    for name, edits in edits_of(hf).items():
        words = []
        for extra_layers in (False, True):
            try:
                folder = bake(hf, edits, root / f"{len(out)}{extra_layers}", extra_layers=extra_layers, texts=())
            except InputError as error:
                refusals.append(str(error))
                words = ["no place"]
                continue
            baked, expected = load_plain(folder), logits(hf, edits)
            scale = max(1.0, float(expected.abs().max()))
            assert float((logits(baked) - expected).abs().max()) / scale <= LIMIT, (item.name, name)
            assert float((unedited - expected).abs().max()) > 1e-2, "the edit itself must act"
            assert greedy(baked) == greedy(hf, edits), (item.name, name)
            kind = type(baked).__name__
            words = ["equal"]
            words += [f"as {kind}"] if kind != type(hf).__name__ else []
            words += ["with further layers"] if extra_layers else []
            break
        out[name] = ", ".join(words)
    assert all("nv.attach" in line and "\n" not in line for line in refusals)
    return out


@pytest.mark.parametrize("index", range(len(ITEMS)), ids=[item.name for item in ITEMS])
def test_logits_and_text_are_those_of_the_hooks(index: int, outcomes) -> None:
    outcome = outcomes(index)
    assert tuple(outcome) == EDITS
    # a factor needs no bias
    assert outcome["Scale"] == outcome["Ablate, zero"] == "equal"


def test_the_table_of_the_docs_is_what_was_measured(outcomes) -> None:
    head = f"| family | configuration | {' | '.join(EDITS)} |"
    rows = [
        f"| {item.family} | {item.variant or 'plain'} | {' | '.join(outcomes(index).values())} |"
        for index, item in enumerate(ITEMS)
    ]
    table = "\n".join([head, "|---" * (len(EDITS) + 2) + "|", *rows])
    text = DOCUMENT.read_text(encoding="utf-8")
    new = f"{text.split(BEGIN)[0]}{BEGIN}\n{table}\n{END}{text.split(END)[1]}"
    if os.environ.get("NEVA_TL_WRITE_DOCS") == "1":
        DOCUMENT.write_text(new, encoding="utf-8")
    assert DOCUMENT.read_text(encoding="utf-8") == new, "NEVA_TL_WRITE_DOCS=1 writes the table again"
    assert len(ITEMS) >= 18
