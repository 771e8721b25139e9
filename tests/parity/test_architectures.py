"""Every architecture computes what transformers computes, or is refused: activations, ablation, edited generation.

Oracle: transformers' own model, one text at a time, raw PyTorch hooks on the down projection (`helpers.architectures`). The
table of docs/architectures.md is compared with what was measured; `NEVA_TL_WRITE_DOCS=1` writes it again.
"""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from dataclasses import asdict, dataclass
from functools import cache
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch
from torch import Tensor

from helpers.architectures import ARCHITECTURES, Architecture, Oracle, save
from helpers.paths import ROOT
from neva_tl import models
from neva_tl.core.errors import InputError
from neva_tl.core.files import atomic_write
from neva_tl.core.neuron_set import NeuronSet
from neva_tl.editing import Ablate, AddVector, Shift, edit, edit_hf
from neva_tl.models import inference
from neva_tl.models.tiny import tiny_checkpoint
from neva_tl.prompts.example import Example

EXAMPLES = [
    Example("Should Dana help her aunt who lives by the river?", "Yes, she should help her at once."),
    Example("Why?", "No."),
    Example("The old king", "counts his golden coins"),
]
#: Largest difference from the oracle, relative to the largest activation or logit where that exceeds 1.
LIMIT = 1e-5
N_NEW = 6
NEURONS = range(0, 48, 4)
#: Contrast of the neurons, which a shift of dose 1 adds.
STEP = 1.5
SCOPES: dict[str, Callable[[int, int], slice]] = {
    "prompt": lambda n_prompt, n: slice(0, n_prompt),
    "generated": lambda n_prompt, n: slice(n_prompt, n),
    "all": lambda n_prompt, n: slice(0, n),
}
LOADED = [item for item in ARCHITECTURES if not item.refusal]
REFUSED = [item for item in ARCHITECTURES if item.refusal]
DOCUMENT = ROOT / "docs" / "architectures.md"
BEGIN, END = "<!-- architectures:begin -->", "<!-- architectures:end -->"


@dataclass(frozen=True)
class Outcome:
    """What was measured of one configuration.

    Attributes:
        neurons: Largest relative difference of the neurons in batches padded on the left and on the right.
        packed: The same of a packed pass; None where the model has none.
        ablation: Largest relative difference of logits from those of a model with zeroed output weights.
        effect: Largest relative change of these logits by the ablation.
        generate: Scopes in which `generate` writes what raw hooks write.
        edit_hf: The same of transformers' own `generate` inside `edit_hf`, for the first two prompts.
        changed: Scopes in which the oracle's texts differ from the unedited ones.
    """

    neurons: float
    packed: float | None
    ablation: float
    effect: float
    generate: list[str]
    edit_hf: list[str]
    changed: list[str]


def parameters(items: list[Architecture]) -> list[Any]:
    return [pytest.param(item, id=item.name, marks=[pytest.mark.core] if item.core else []) for item in items]


@pytest.fixture(scope="session")
def checkpoints(tmp_path_factory: pytest.TempPathFactory) -> Callable[[Architecture], Path]:
    """The folder of a configuration, saved at its first use."""
    root = tmp_path_factory.mktemp("architectures")

    def folder(item: Architecture) -> Path:
        path = root / str(ARCHITECTURES.index(item))
        return path if path.exists() else save(item, path)

    return folder


@pytest.fixture(scope="session")
def loaded(checkpoints: Callable[[Architecture], Path]) -> Callable[[Architecture], Any]:
    """The model of a configuration, loaded at its first use."""

    @cache
    def model(number: int) -> Any:
        return models.load(checkpoints(LOADED[number]))

    return lambda item: model(LOADED.index(item))


@pytest.fixture(scope="session")
def outcomes(
    checkpoints: Callable[[Architecture], Path],
    loaded: Callable[[Architecture], Any],
    tmp_path_factory: pytest.TempPathFactory,
) -> Callable[[Architecture], Outcome]:
    """The outcome of a configuration, measured once, also where several processes share the tests."""
    root = tmp_path_factory.getbasetemp()
    root = (root.parent if "PYTEST_XDIST_WORKER" in os.environ else root) / "outcomes of architectures"
    root.mkdir(exist_ok=True)

    def outcome(item: Architecture) -> Outcome:
        file = root / f"{ARCHITECTURES.index(item)}.json"
        if not file.exists():
            measured = asdict(measure(loaded(item), Oracle(checkpoints(item), item.down)))
            with atomic_write(file) as new:
                new.write_text(json.dumps(measured))
        return Outcome(**json.loads(file.read_text()))

    return outcome


# ---------------------------------------------------------------- measured


def measure(model: Any, oracle: Oracle) -> Outcome:
    encoded = [one.ids for one in inference.encode_one(model, EXAMPLES)]
    batches = {side: inference.pad(model, inference.encode_one(model, EXAMPLES), side) for side in ("left", "right")}
    expected = [oracle.neurons(ids) for ids in encoded]
    neurons = 0.0
    for batch in batches.values():
        activations = recorded(model, batch)
        for layer, x in enumerate(activations):
            errors = [difference(x[row][batch.mask[row]], expected[row][layer]) for row in range(len(encoded))]
            neurons = max(neurons, *errors)
    packed = None
    if models.packable(model):
        activations = recorded(model, batches["right"], packed=True)
        pairs = zip(activations, (torch.cat(layer) for layer in zip(*expected, strict=True)), strict=True)
        packed = max(difference(x[0], y) for x, y in pairs)
    ablation, effect = ablate(model, batches["left"], encoded, oracle)
    texts = Texts(model, oracle)
    unedited = texts.by_hand(SCOPES["all"], 0.0)
    by_hand = {scope: texts.by_hand(tokens, STEP) for scope, tokens in SCOPES.items()}
    return Outcome(
        neurons,
        packed,
        ablation,
        effect,
        generate=[scope for scope in SCOPES if texts.ours(scope) == by_hand[scope]],
        edit_hf=[scope for scope in SCOPES if texts.theirs(scope) == by_hand[scope][:2]],
        changed=[scope for scope in SCOPES if by_hand[scope] != unedited],
    )


def difference(x: Tensor, y: Tensor) -> float:
    assert x.shape == y.shape
    return float((x - y).abs().max()) / max(1.0, float(y.abs().max()))


def recorded(model: Any, batch: Any, **options: Any) -> list[Tensor]:
    names = [models.hook_name(model, layer, "post") for layer in range(models.info(model).n_layers)]
    activations: list[Tensor] = []
    handles = [models.add_hook(model, name, lambda x, hook=None: activations.append(x.clone())) for name in names]
    inference.forward_batch(model, batch, **options)
    for handle in handles:
        handle.remove()
    return activations


def neuron_set(model: Any) -> NeuronSet:
    facts = models.info(model)
    at = [(layer, neuron) for layer in range(facts.n_layers) for neuron in NEURONS]
    df = pd.DataFrame(at, columns=["layer", "neuron"]).assign(mean_plus=2.0, mean_minus=2.0 - STEP, sd=1.0, score=1.0)
    sizes = {"n_layers": facts.n_layers, "d_mlp": facts.d_mlp}
    return NeuronSet("power", "test", df, **sizes, fingerprint=models.fingerprint(model))


def ablate(model: Any, batch: Any, encoded: list[Any], oracle: Oracle) -> tuple[float, float]:
    with edit(model, Ablate(neuron_set(model))) as session:
        logits = inference.forward_batch(model, batch, session=session)
    assert logits is not None
    unedited = [oracle.logits(ids) for ids in encoded]
    with oracle.zeroed(dict.fromkeys(range(len(oracle.down)), NEURONS)):
        expected = [oracle.logits(ids) for ids in encoded]
    errors = [difference(logits[row][batch.mask[row]][:, : x.shape[1]], x) for row, x in enumerate(expected)]
    return max(errors), max(map(difference, unedited, expected))


class Texts:
    """Greedy continuations of the prompts: by raw hooks, by `generate`, and by transformers inside `edit_hf`."""

    def __init__(self, model: Any, oracle: Oracle) -> None:
        self.model, self.oracle, self.neurons = model, oracle, neuron_set(model)
        self.prompts = [item.prompt for item in EXAMPLES]
        self.ids = [item.ids for item in inference.encode_one(model, [Example(prompt, "") for prompt in self.prompts])]
        self.tokenizer = models.tokenizer(model)

    def decode(self, ids: list[int]) -> str:
        return self.tokenizer.decode(ids, skip_special_tokens=True)

    def by_hand(self, tokens: Callable[[int, int], slice], step: float) -> list[str]:
        constant = torch.zeros(models.info(self.model).d_mlp)
        constant[list(NEURONS)] = step
        steps = dict.fromkeys(range(len(self.oracle.down)), constant)
        return [self.decode(self.oracle.greedy(ids, N_NEW, steps, tokens)) for ids in self.ids]

    def ours(self, scope: Any) -> list[str]:
        with edit(self.model, Shift(self.neurons, scope=scope)):
            return inference.generate(self.model, self.prompts, max_new_tokens=N_NEW, stop_at_eos=False)

    def theirs(self, scope: Any) -> list[str]:
        hf = self.oracle.model
        hf.generation_config.eos_token_id = None
        out = []
        with edit_hf(hf, Shift(self.neurons, scope=scope)):
            for ids in self.ids[:2]:
                prompt = torch.tensor([list(ids)])
                options = {"max_new_tokens": N_NEW, "do_sample": False, "pad_token_id": 0}
                new = hf.generate(input_ids=prompt, attention_mask=torch.ones_like(prompt), **options)
                out.append(self.decode(new[0, len(ids) :].tolist()))
        return out


# ---------------------------------------------------------------- tests


@pytest.mark.parametrize("item", parameters(LOADED))
def test_neurons_edits_and_texts_are_transformers_own(
    item: Architecture, outcomes: Callable[[Architecture], Outcome]
) -> None:
    outcome = outcomes(item)
    assert outcome.neurons <= LIMIT
    assert outcome.ablation <= LIMIT and outcome.effect > 1e-2
    assert outcome.generate == list(SCOPES)
    assert outcome.edit_hf == list(SCOPES)
    assert outcome.changed == list(SCOPES), "the oracle itself must move"


@pytest.mark.parametrize("item", parameters(LOADED))
def test_packed_passes(item: Architecture, outcomes: Callable[[Architecture], Outcome]) -> None:
    """Real tokens alone, windows shorter than the texts included."""
    packed = outcomes(item).packed
    if bridged():
        assert (packed is not None) is item.packs
    assert packed is None or packed <= LIMIT


@pytest.mark.parametrize("item", parameters(LOADED))
def test_caches_and_resumed_passes(item: Architecture, loaded: Callable[[Architecture], Any]) -> None:
    model = loaded(item)
    prompts = [example.prompt for example in EXAMPLES]
    texts = inference.generate(model, prompts, max_new_tokens=N_NEW)
    assert texts == inference.generate(model, prompts, max_new_tokens=N_NEW, cache=False)
    plain, _ = inference.answer_logprobs(model, EXAMPLES)
    prefix = inference.PrefixCache(model, EXAMPLES)
    assert np.allclose(plain, inference.answer_logprobs(model, EXAMPLES, prefix=prefix)[0], atol=1e-3)
    assert np.allclose(plain, inference.answer_logprobs(model, EXAMPLES, token_budget=1)[0], atol=1e-3)
    layers, push = models.LayerCache(model), AddVector({1: np.linspace(-1, 1, models.info(model).d_model)})
    with edit(model, push) as session:
        full = inference.answer_logprobs(model, EXAMPLES, session=session)[0]
    for _ in range(2):
        with edit(model, push, reuse=layers) as session:
            resumed = inference.answer_logprobs(model, EXAMPLES, session=session)[0]
        assert np.allclose(resumed, full, atol=1e-5) and not np.allclose(full, plain, atol=1e-2)
    assert layers.n_resumed == 1


@pytest.mark.parametrize("item", parameters(REFUSED))
def test_refused_with_its_reason(item: Architecture, checkpoints: Callable[[Architecture], Path]) -> None:
    with pytest.raises(InputError) as caught:
        models.load(checkpoints(item))
    assert item.refusal in str(caught.value) and "\n" not in str(caught.value)


def test_the_table_of_the_docs_is_what_was_measured(outcomes: Callable[[Architecture], Outcome]) -> None:
    if not bridged():
        pytest.skip("the table is that of TransformerLens 4")
    rows = [row(item, None if item.refusal else outcomes(item)) for item in ARCHITECTURES]
    head = "| family | configuration | padded | packed | ablation | `nv.generate` | `nv.edit_hf` |"
    table = "\n".join([head, "|---|---|---|---|---|---|---|", *rows])
    text = DOCUMENT.read_text(encoding="utf-8")
    before, after = text.split(BEGIN)[0], text.split(END)[1]
    new = f"{before}{BEGIN}\n{table}\n{END}{after}"
    if os.environ.get("NEVA_TL_WRITE_DOCS") == "1":
        DOCUMENT.write_text(new, encoding="utf-8")
    assert DOCUMENT.read_text(encoding="utf-8") == new, "NEVA_TL_WRITE_DOCS=1 writes the table again"
    assert len(LOADED) >= 37 and len({item.family for item in LOADED}) >= 30


def row(item: Architecture, outcome: Outcome | None) -> str:
    """One line of the table: thresholds and scopes, no figure that rounding could change."""
    name = f"| {item.family} | {item.variant or 'plain'} |"
    if outcome is None:
        return f"{name} refused: {item.refusal} | | | | |"
    packed = "padded instead" if outcome.packed is None else within(outcome.packed)
    scopes = (", ".join(names) or "none" for names in (outcome.generate, outcome.edit_hf))
    return " | ".join([name[:-2], within(outcome.neurons), packed, within(outcome.ablation), *scopes]) + " |"


def within(error: float) -> str:
    return "< 1e-5" if error <= LIMIT else "**differs**"


def bridged() -> bool:
    return version("transformer-lens").startswith("4.")


# ---------------------------------------------------------------- models that TransformerLens loaded


def test_a_mixture_loaded_by_transformerlens_is_refused(checkpoints: Callable[[Architecture], Path]) -> None:
    """Passed through `load`, it is caught by the hook's width or the config before anything is collected."""
    bridge = pytest.importorskip("transformer_lens.model_bridge").TransformerBridge
    (item,) = (item for item in ARCHITECTURES if item.family == "Mixtral")
    model = models.load(bridge.boot_transformers(str(checkpoints(item)), device="cpu"))
    with pytest.raises(InputError, match="mixture of experts"):
        models.check_mlp(model)


def test_a_users_own_bridge_passes(tmp_path: Path) -> None:
    bridge = pytest.importorskip("transformer_lens.model_bridge").TransformerBridge
    folder = tiny_checkpoint(tmp_path / "m")
    theirs = bridge.boot_transformers(str(folder), device="cpu").eval()
    mine = models.load(folder)
    models.check_mlp(theirs)
    assert models.load(theirs) is theirs
    assert models.fingerprint(theirs)["weights_hash"] == models.fingerprint(mine)["weights_hash"]
    assert inference.generate(theirs, ["The old king"], max_new_tokens=8) == inference.generate(
        mine, ["The old king"], max_new_tokens=8
    )
