"""The logit lens against plain transformers with hooks of its own, against the model's logits, and against TransformerLens 4."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch
from torch import Tensor
from transformers import AutoModelForCausalLM

from neva_tl import models
from neva_tl.attribution import lens_tokens, logit_lens, value_tokens
from neva_tl.core.errors import InputError, WorkError
from neva_tl.core.neuron_set import NeuronSet
from neva_tl.editing import AddVector, Shift, edit
from neva_tl.models import inference
from neva_tl.models.tiny import tiny_checkpoint
from neva_tl.prompts.example import Example

pytestmark = pytest.mark.core

WORDS = {"power": ["king", "golden"], "benevolence": ["helps", "shares", "bread"]}
EXAMPLES = [
    Example("the old king", "shares bread with every child"),
    Example("she climbs the highest tower at night because", "danger"),
    Example("nobody in the village", "counts coins"),
]
AT = [(0, 3), (1, 5), (2, 7)]
STEP = 1.5


class Checkpoint:
    """A random model as neva_tl loads it, and the same folder in plain transformers."""

    def __init__(self, folder: Path) -> None:
        self.model = models.load(folder)
        self.hf: Any = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32).eval()

    @property
    def inner(self) -> Any:
        return self.hf.model if hasattr(self.hf, "model") else self.hf.transformer

    @property
    def blocks(self) -> Any:
        return self.inner.layers if hasattr(self.inner, "layers") else self.inner.h

    def down(self, layer: int) -> Any:
        mlp = self.blocks[layer].mlp
        return mlp.down_proj if hasattr(mlp, "down_proj") else mlp.c_proj

    def streams(self, ids: list[int], shift: bool = False) -> list[Tensor]:
        """The stream after the embedding and each block, seen by hooks on the transformers modules."""
        seen: list[Tensor] = []

        def keep(module: Any, args: Any, out: Any) -> None:
            seen.append((out[0] if isinstance(out, tuple) else out)[0])

        def enter(module: Any, args: Any, kwargs: Any) -> None:
            seen.append((args[0] if args else kwargs["hidden_states"])[0])

        def add(neuron: int) -> Any:
            def hook(module: Any, args: tuple[Tensor, ...]) -> tuple[Tensor]:
                x = args[0].clone()
                x[..., neuron] += STEP
                return (x,)

            return hook

        handles = [self.blocks[0].register_forward_pre_hook(enter, with_kwargs=True)]
        handles += [block.register_forward_hook(keep) for block in self.blocks]
        if shift:
            handles += [self.down(layer).register_forward_pre_hook(add(neuron)) for layer, neuron in AT]
        with torch.no_grad():
            self.hf(torch.tensor([ids]))
        for handle in handles:
            handle.remove()
        return seen

    def read(self, stream: Tensor) -> Tensor:
        """Log-probabilities by the transformers model's own norm and head."""
        norm = self.inner.norm if hasattr(self.inner, "norm") else self.inner.ln_f
        with torch.no_grad():
            return torch.log_softmax(self.hf.lm_head(norm(stream)), dim=-1)

    def shifted(self, **options: Any) -> Shift:
        info = models.info(self.model)
        df = pd.DataFrame(AT, columns=["layer", "neuron"]).assign(mean_plus=2.0, mean_minus=0.5, sd=1.0, score=1.0)
        neurons = NeuronSet("power", "test", df, info.n_layers, info.d_mlp, fingerprint=models.fingerprint(self.model))
        return Shift(neurons, dose=1.0, **options)


@pytest.fixture(scope="module", params=["llama", "gpt2"])
def both(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Checkpoint:
    return Checkpoint(tiny_checkpoint(tmp_path_factory.mktemp("lens") / request.param, request.param))


def own_tokens(model: Any, value: str) -> list[int]:
    table = value_tokens(model, list(WORDS), WORDS)
    return [int(t) for t in table[(table["value"] == value) & ~table["shared"]]["token"]]


def odds(logprobs: Tensor, tokens: list[int]) -> float:
    p = float(logprobs.double().exp()[tokens].sum())
    return float(np.log(p / (1 - p)))


@pytest.mark.parametrize("at", ["last", "answer"])
def test_every_layer_equals_a_reading_by_hand(both: Checkpoint, at: Any) -> None:
    model = both.model
    found = logit_lens(
        model, EXAMPLES, values=list(WORDS), words=WORDS, edited=lambda: edit(model, both.shifted()), at=at
    )
    layers = models.info(model).n_layers + 1
    assert len(found) == 2 * layers * len(WORDS) and set(found["n"]) == {len(EXAMPLES)}
    encoded = inference.encode_one(model, EXAMPLES)
    for condition in ("unedited", "edited"):
        streams = [both.streams(list(item.ids), shift=condition == "edited") for item in encoded]
        for value in WORDS:
            tokens = own_tokens(model, value)
            for layer in range(layers):
                single = []
                for item, seen in zip(encoded, streams, strict=True):
                    where = range(item.start, len(item.ids)) if at == "answer" else [len(item.ids) - 1]
                    single.append(np.mean([odds(both.read(seen[layer][i]), tokens) for i in where]))
                row = found[
                    (found["condition"] == condition) & (found["value"] == value) & (found["layer"] == layer)
                ].iloc[0]
                assert row["log_odds"] == pytest.approx(np.mean(single), abs=2e-4)
                # t quantile of 2 degrees of freedom
                half = 4.302653 * np.std(single, ddof=1) / np.sqrt(3)
                assert row["hi"] - row["log_odds"] == pytest.approx(half, abs=1e-3)
                assert row["log_odds"] - row["lo"] == pytest.approx(half, abs=1e-3)


def test_the_edit_is_seen_from_its_layer_on_and_nothing_stays(both: Checkpoint) -> None:
    model = both.model
    later = both.shifted()
    later = Shift(later.neurons.with_df(later.neurons.df.iloc[[1]]), dose=1.0)  # layer 1 alone
    found = logit_lens(model, EXAMPLES, values=list(WORDS), words=WORDS, edited=lambda: edit(model, later))
    wide = found.pivot(index=["value", "layer"], columns="condition", values="log_odds")
    change = (wide["edited"] - wide["unedited"]).abs().groupby("layer").max()
    assert (change.loc[:1] == 0).all() and (change.loc[2:] > 1e-4).all()
    again = logit_lens(model, EXAMPLES, values=list(WORDS), words=WORDS)
    assert set(again["condition"]) == {"unedited"}
    first = found[found["condition"] == "unedited"].reset_index(drop=True)
    pd.testing.assert_frame_equal(again, first)


def test_several_edits_stand_beside_one_unedited_run(both: Checkpoint) -> None:
    model, options = both.model, {"values": list(WORDS), "words": WORDS}
    one, two = both.shifted(), both.shifted().with_dose(-2.0)
    edits = {"power": lambda: edit(model, one), "tradition": lambda: edit(model, two)}
    found = logit_lens(model, EXAMPLES, edited=edits, **options)
    assert list(found["steered"].fillna("none").unique()) == ["none", "power", "tradition"]
    for name, enter in edits.items():
        alone = logit_lens(model, EXAMPLES, edited=enter, **options)
        mine = found[found["steered"] == name].drop(columns="steered").reset_index(drop=True)
        theirs = alone[alone["condition"] == "edited"].drop(columns="steered").reset_index(drop=True)
        pd.testing.assert_frame_equal(mine, theirs)


def test_changes_are_paired_over_examples(both: Checkpoint) -> None:
    model, options = both.model, {"values": ["power"], "words": WORDS}
    found = logit_lens(model, EXAMPLES, edited=lambda: edit(model, both.shifted()), **options)
    singles = [logit_lens(model, [item], edited=lambda: edit(model, both.shifted()), **options) for item in EXAMPLES]
    for layer in range(models.info(model).n_layers + 1):
        changes = []
        for one in singles:
            at = one[one["layer"] == layer].set_index("condition")["log_odds"]
            changes.append(at["edited"] - at["unedited"])
        row = found[(found["layer"] == layer) & (found["condition"] == "edited")].iloc[0]
        assert row["change"] == pytest.approx(np.mean(changes), abs=2e-4)
        half = 4.302653 * np.std(changes, ddof=1) / np.sqrt(3)
        assert row["change_hi"] - row["change_lo"] == pytest.approx(2 * half, abs=2e-3)
    assert found[found["condition"] == "unedited"]["change"].isna().all()


def test_an_edit_of_the_stream_itself_is_seen_at_its_own_layer(both: Checkpoint) -> None:
    model = both.model
    vector = torch.randn(models.info(model).d_model, generator=torch.Generator().manual_seed(1))
    push = AddVector({0: vector.numpy()}, dose=1.0)
    found = logit_lens(model, EXAMPLES[:1], values=["power"], words=WORDS, edited=lambda: edit(model, push))
    (item,) = inference.encode_one(model, EXAMPLES[:1])
    expected = odds(both.read(both.streams(list(item.ids))[1][-1] + vector), own_tokens(model, "power"))
    row = found[(found["condition"] == "edited") & (found["layer"] == 1)].iloc[0]
    assert row["log_odds"] == pytest.approx(expected, abs=2e-4) and np.isnan(row["lo"])


def test_scope_generated_touches_answers_only(both: Checkpoint) -> None:
    model = both.model
    generated = both.shifted(scope="generated")

    def change(examples: list[Example], at: Any) -> float:
        found = logit_lens(model, examples, values=["power"], words=WORDS, edited=lambda: edit(model, generated), at=at)
        wide = found.pivot(index="layer", columns="condition", values="log_odds")
        return float((wide["edited"] - wide["unedited"]).abs().max())

    assert change([Example("the old king", "")], "last") == 0.0
    assert change(EXAMPLES, "answer") > 1e-3


def test_batches_change_nothing(both: Checkpoint) -> None:
    options: dict[str, Any] = {"values": list(WORDS), "words": WORDS, "at": "answer"}
    together = logit_lens(both.model, EXAMPLES, **options)
    apart = logit_lens(both.model, EXAMPLES, token_budget=1, **options)
    np.testing.assert_allclose(together["log_odds"], apart["log_odds"], atol=2e-4)


def test_top_tokens_equal_a_reading_by_hand(both: Checkpoint) -> None:
    model, text = both.model, "the quick brown fox"
    found = lens_tokens(model, text, k=4, edited=lambda: edit(model, both.shifted()))
    (item,) = inference.encode_one(model, [Example(text, "")])
    tokenizer = models.tokenizer(model)
    for condition in ("unedited", "edited"):
        for layer, stream in enumerate(both.streams(list(item.ids), shift=condition == "edited")):
            rows = found[(found["condition"] == condition) & (found["layer"] == layer)]
            best = both.read(stream[-1]).exp().topk(4)
            assert list(rows["rank"]) == [1, 2, 3, 4] and list(rows["token"]) == best.indices.tolist()
            np.testing.assert_allclose(rows["probability"], best.values, atol=1e-5)
            assert [str(t).strip() for t in rows["text"]] == [
                tokenizer.decode([t]).strip() for t in best.indices.tolist()
            ]


@pytest.mark.parametrize(
    "example",
    [
        Example("the old king ", ""),
        Example("the old king\n\n", ""),
        Example("the  old\tking", ""),
        Example("the old king", "counts", separator="\n"),
        Example("the old king", "\n counts ", separator=""),
    ],
)
def test_white_space_is_read_as_it_is_written(both: Checkpoint, example: Example) -> None:
    ids = models.tokenizer(both.model)(example.lead + example.answer)["input_ids"]
    if (
        models.tokenizer(both.model).bos_token == models.tokenizer(both.model).eos_token
    ):  # GPT-2's separator is put before
        ids = list(inference.encode_one(both.model, [example])[0].ids[:1]) + ids
        ids = ids[1:] if ids[0] == ids[1] else ids
    with torch.no_grad():
        own = both.hf(torch.tensor([ids])).logits[0, -1].softmax(-1)
    table = lens_tokens(both.model, example, k=4)
    last = table[table["layer"] == table["layer"].max()]
    assert last["token"].tolist() == own.topk(4).indices.tolist()
    assert np.allclose(last["probability"], own.topk(4).values.numpy(), atol=1e-5)


def test_last_layer_is_the_models_own_prediction_on_a_real_model(stories3m: Any) -> None:
    text = "Once upon a time there was a little"
    batch = inference.encode(stories3m, [Example(text, "")])
    logits = inference.forward_batch(stories3m, batch)
    assert logits is not None
    own = torch.softmax(logits[0, -1].float(), dim=-1)
    found = lens_tokens(stories3m, text, k=3)
    last = found[found["layer"] == models.info(stories3m).n_layers]
    np.testing.assert_allclose(last["probability"], own.topk(3).values, rtol=1e-3)
    words = {"benevolence": ["girl", "friend"]}
    table = logit_lens(stories3m, [Example(text, "")], values=["benevolence"], words=words)
    tokens = value_tokens(stories3m, ["benevolence"], words)["token"].tolist()
    assert table["log_odds"].iloc[-1] == pytest.approx(odds(own.log(), tokens), abs=1e-3)


def test_agrees_with_the_logit_lens_of_transformerlens_4(stories3m: Any) -> None:
    tool = pytest.importorskip(
        "transformer_lens.tools.analysis.logit_lens", reason="TransformerLens 4 has a logit lens"
    )
    text, k = "Tom was sad because his dog", 3
    batch = inference.encode(stories3m, [Example(text, "")])
    theirs = tool.logit_lens(stories3m, batch.tokens, top_k=k, return_type="probs", incl_mid=False)
    ours = lens_tokens(stories3m, text, k=k)
    values = theirs.values.reshape(len(theirs.labels), k)
    ids = theirs.readout.top_ids.reshape(len(theirs.labels), k)
    assert len(theirs.labels) == models.info(stories3m).n_layers + 1
    for layer in range(len(theirs.labels)):
        mine = ours[ours["layer"] == layer]
        assert list(mine["token"]) == ids[layer].tolist()
        np.testing.assert_allclose(mine["probability"], values[layer].detach(), rtol=2e-3)


def test_certain_predictions_keep_their_odds() -> None:
    from neva_tl.attribution.lens import _log_odds

    for size in (60.0, 8.0, 5.0, 0.0, -40.0):  # at 60, P(S) rounds to 1 in double precision
        logits = torch.zeros(1, 5)
        logits[0, 2] = size
        assert _log_odds(logits, {"power": [2]})[0, 0] == pytest.approx(size - np.log(4), abs=1e-4)


def test_bad_input_is_refused(both: Checkpoint, monkeypatch: pytest.MonkeyPatch) -> None:
    model = both.model
    with pytest.raises(InputError, match="at is"):
        logit_lens(model, EXAMPLES, values=["power"], words=WORDS, at="first")
    with pytest.raises(InputError, match="at least one example"):
        logit_lens(model, [], values=["power"], words=WORDS)
    with pytest.raises(InputError, match=r"example 1 .*no answer token"):
        logit_lens(model, [EXAMPLES[0], Example("the king", "")], values=["power"], words=WORDS, at="answer")
    with pytest.raises(InputError, match="shares every token"):
        logit_lens(model, EXAMPLES, values=["power", "benevolence"], words={"power": ["king"], "benevolence": ["king"]})
    with pytest.raises(InputError, match="k is between"):
        lens_tokens(model, "the", k=0)
    head = models.logits_of
    monkeypatch.setattr(models, "logits_of", lambda model, x: 3 * head(model, x))
    with pytest.raises(WorkError, match="own logits"):
        logit_lens(model, EXAMPLES, values=["power"], words=WORDS)
