"""Direct attribution against the model itself: the parts of the residual stream add up to the logits, and moving one neuron
with everything else frozen changes the logits by what is attributed to it."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch

from neva_tl import models
from neva_tl.attribution import direct_logits, frozen_scale, readout
from neva_tl.attribution.outputs import divisor
from neva_tl.core.errors import InputError
from neva_tl.core.neuron_set import NeuronSet
from neva_tl.prompts.example import Example

TEXTS = ["Once upon a time there was a little girl", "Tom was sad because his dog ran away. He said"]


def neuron_set(model: Any, places: list[tuple[int, int]], deltas: list[float]) -> NeuronSet:
    """Neurons at given places whose mean difference between poles is given."""
    facts = models.info(model)
    df = pd.DataFrame(places, columns=["layer", "neuron"]).assign(
        mean_plus=np.array(deltas) + 0.5, mean_minus=0.5, sd=1.0, score=1.0
    )
    return NeuronSet("benevolence", "test", df, n_layers=facts.n_layers, d_mlp=facts.d_mlp)


def random_model(kind: str, folder: Path, tokenizer_of: Path, seed: int = 0) -> Any:
    """A randomly initialised GPT-2- or Llama-shaped checkpoint, norm weights and biases away from their usual 1 and 0."""
    import transformers

    import neva_tl as nv

    torch.manual_seed(seed)
    if kind == "gpt2":
        cfg = transformers.GPT2Config(n_layer=3, n_head=4, n_embd=32, vocab_size=4096, n_positions=64)
        hf = transformers.GPT2LMHeadModel(cfg)
    else:
        cfg = transformers.LlamaConfig(
            num_hidden_layers=3, num_attention_heads=4, num_key_value_heads=2, hidden_size=32, intermediate_size=48,
            vocab_size=4096, max_position_embeddings=64, tie_word_embeddings=False,
        )  # fmt: skip
        hf = transformers.LlamaForCausalLM(cfg)
    for name, parameter in hf.named_parameters():
        if "norm" in name or "ln_" in name or name.endswith("bias"):
            parameter.data += 0.3 * torch.randn_like(parameter)
    hf.save_pretrained(folder)
    for name in ("tokenizer.json", "tokenizer_config.json"):
        shutil.copy(tokenizer_of / name, folder / name)
    return nv.load(folder)


@pytest.fixture(scope="module", params=["stories3m", "gpt2", "llama"])
def model(request: pytest.FixtureRequest, shared_dir: Path, tmp_path_factory: pytest.TempPathFactory) -> Any:
    if request.param == "stories3m":
        return request.getfixturevalue("stories3m")
    return random_model(request.param, tmp_path_factory.mktemp(request.param), shared_dir / "models" / "stories3M")


def tokens_of(model: Any) -> torch.Tensor:
    generator = torch.Generator().manual_seed(3)
    return torch.randint(5, min(100, models.info(model).d_vocab), (2, 9), generator=generator)


def run(model: Any, tokens: torch.Tensor, hooks: dict[str, Any]) -> torch.Tensor:
    handles = [models.add_hook(model, name, fn) for name, fn in hooks.items()]
    try:
        logits = models.forward(model, tokens, torch.ones_like(tokens, dtype=torch.bool))
    finally:
        for handle in handles:
            handle.remove()
    assert logits is not None
    return logits


def parts(model: Any, tokens: torch.Tensor) -> tuple[dict[str, torch.Tensor], torch.Tensor]:
    """Embedding, every attention output, every MLP output, and the logits."""
    store: dict[str, torch.Tensor] = {}

    def keep(name: str) -> Any:
        def hook(x: torch.Tensor, hook: Any = None) -> None:
            store[name] = x.detach().clone()

        return hook

    sites = [(0, "resid_pre")] + [
        (layer, s) for layer in range(models.info(model).n_layers) for s in ("attn_out", "mlp_out")
    ]
    names = [models.hook_name(model, layer, site) for layer, site in sites]
    return store, run(model, tokens, {name: keep(name) for name in names})


def test_direct_contributions_add_up_to_the_logits(model: Any) -> None:
    tokens = tokens_of(model)
    store, logits = parts(model, tokens)
    stream = torch.stack(list(store.values())).sum(0)
    kind, _, bias, eps = models.final_norm(model)
    scale = divisor(stream, kind, eps)[..., None]
    read = readout(model, centred=False)
    pieces = torch.stack([x @ read / scale for x in store.values()])
    total = pieces.sum(0) + models.b_u(model)
    if bias is not None:
        total = total + bias @ models.w_u(model)
    bound = 1e-4 * pieces.abs().sum(0).clamp_min(1e-3)
    assert ((total - logits).abs() <= bound).all()


def test_one_neuron_changes_the_logits_by_its_attribution(model: Any) -> None:
    tokens, facts = tokens_of(model), models.info(model)
    layer, index, delta = facts.n_layers - 1, 7, 0.8
    store, before = parts(model, tokens)
    stream = torch.stack(list(store.values())).sum(0)
    kind, _, _, eps = models.final_norm(model)
    scale = divisor(stream, kind, eps)

    def shift(x: torch.Tensor, hook: Any = None) -> torch.Tensor:
        x = x.clone()
        x[..., index] += delta
        return x

    # The last layer has nothing behind it but the norm, whose scale the oracle freezes by hand.
    edited: dict[str, torch.Tensor] = {}
    last = models.hook_name(model, layer, "resid_post")
    run(
        model,
        tokens,
        {
            models.hook_name(model, layer, "post"): shift,
            last: lambda x, hook=None: edited.update(x=x.detach().clone()),
        },
    )
    kind, weight, bias, _ = models.final_norm(model)
    x = edited["x"] - edited["x"].mean(-1, keepdim=True) if kind == "layernorm" else edited["x"]
    normed = x / scale[..., None] * weight + (0 if bias is None else bias)
    after = normed @ models.w_u(model) + models.b_u(model)
    chosen = [5, 17, 60]
    found = direct_logits(model, neuron_set(model, [(layer, index)], [delta]), chosen, centred=False)[0]
    expected = (after - before)[..., chosen] * scale[..., None]
    assert torch.allclose(expected, found.expand_as(expected), atol=2e-4, rtol=1e-3)


def test_centring_takes_the_vocabulary_mean_away_and_keeps_differences(model: Any) -> None:
    neurons = neuron_set(model, [(0, 1), (1, 5)], [1.0, -2.0])
    centred = direct_logits(model, neurons)
    plain = direct_logits(model, neurons, centred=False)
    assert centred.mean(1).abs().max() < 1e-5
    assert torch.allclose(centred[:, 3] - centred[:, 8], plain[:, 3] - plain[:, 8], atol=1e-5)
    assert torch.allclose(direct_logits(model, neurons, [8, 3]), centred[:, [8, 3]], atol=1e-6)


def test_scale_divides_and_order_of_rows_is_kept(model: Any) -> None:
    neurons = neuron_set(model, [(1, 5), (0, 1), (1, 2)], [1.0, 2.0, 3.0])
    both = direct_logits(model, neurons, [1, 2])
    assert torch.allclose(direct_logits(model, neurons, [1, 2], scale=4.0), both / 4)
    one = direct_logits(model, neurons.with_df(neurons.df.iloc[[1]]), [1, 2])
    assert torch.allclose(one[0], both[1])


def test_frozen_scale_is_the_mean_rms_at_answer_tokens(stories3m: Any) -> None:
    examples = [Example("", text) for text in TEXTS]
    from neva_tl.models import inference

    batch = inference.encode(stories3m, examples)
    seen = {}
    name = models.hook_name(stories3m, models.info(stories3m).n_layers - 1, "resid_post")
    handle = models.add_hook(stories3m, name, lambda x, hook=None: seen.update(x=x))
    inference.forward_batch(stories3m, batch, logits=False)
    handle.remove()
    rms = seen["x"].pow(2).mean(-1).sqrt()[batch.answer].mean()
    assert frozen_scale(stories3m, examples) == pytest.approx(float(rms), rel=1e-3)


def test_bad_input_is_refused(stories3m: Any) -> None:
    good = neuron_set(stories3m, [(0, 1)], [1.0])
    with pytest.raises(InputError, match="site 'post'"):
        direct_logits(stories3m, NeuronSet("power", "t", good.df, good.n_layers, good.d_mlp, site="gate"))
    with pytest.raises(InputError, match="layers"):
        direct_logits(stories3m, NeuronSet("power", "t", good.df, 2, 16))
    with pytest.raises(InputError, match="token ids"):
        direct_logits(stories3m, good, [10**6])
    with pytest.raises(InputError, match="positive"):
        readout(stories3m, scale=0.0)
