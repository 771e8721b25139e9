"""Methods that collect the mean `hook_post` of texts: `neva_tl`, and its peers.

A builder takes a checkpoint folder; its method turns texts and their poles into mean and M2 `[2, l, k]` (peers: two passes in
float64). Documented: batches in the given order, padded, the full forward pass, activations stored and then averaged. Tuned:
sorted by length and packed by the token budget of `neva_tl`, no LM head where the peer allows it, averaged at once.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import numpy as np

Moments = tuple[np.ndarray, np.ndarray]
#: Preparation of texts and poles, which is not measured; and the measured method.
Method = tuple[Callable[[Sequence[str], np.ndarray], Any], Callable[[Any], Moments]]

#: Rows of a batch in the examples of the peers.
ROWS = 16
VALUE = "security"
#: Environment variable with the number format of all methods, which run in processes of their own.
DTYPE = "NEVA_BENCH_DTYPE"


def dtype() -> Any:
    """Return the number format of all methods; float32 where none is named."""
    import torch

    return getattr(torch, os.environ.get(DTYPE, "float32"))


def rows_of(texts: Sequence[str], plus: np.ndarray) -> list[dict[str, str]]:
    """Return texts as rows of a contrast set."""
    return [
        {"value": VALUE, "pole": "+" if p else "-", "text": t, "cluster": str(i), "split": "train"}
        for i, (t, p) in enumerate(zip(texts, plus, strict=True))
    ]


def ours(folder: str) -> Method:
    """Build `neva_tl.collect` with its defaults."""
    return _ours(folder)


def ours_post_only(folder: str) -> Method:
    """Build `neva_tl.collect` without the gate's moments, as the peers collect."""
    return _ours(folder, gate=False)


def _ours(folder: str, **options: Any) -> Method:
    import neva_tl as nv

    model = nv.load(folder, dtype=dtype())

    def run(pairs: Any) -> Moments:
        stats = nv.collect(model, pairs, pooling="mean", chat=False, **options)
        moments = [stats.moments(VALUE, pole) for pole in "+-"]
        return np.stack([mean for _, mean, _ in moments]), np.stack([m2 for _, _, m2 in moments])

    return lambda texts, plus: nv.prompts.ContrastSet.from_rows(rows_of(texts, plus), "benchmark"), run


# ---------------------------------------------------------------- shared by the peers


Inputs = tuple[Sequence[str], np.ndarray]


def as_given(texts: Sequence[str], plus: np.ndarray) -> Inputs:
    """Return the inputs of a peer, unchanged."""
    return texts, plus


def _hf(folder: str) -> tuple[Any, Any]:
    from transformers import AutoModelForCausalLM, AutoTokenizer

    tokenizer = AutoTokenizer.from_pretrained(folder)
    tokenizer.pad_token = tokenizer.pad_token or tokenizer.eos_token
    tokenizer.padding_side = "right"
    return AutoModelForCausalLM.from_pretrained(folder, dtype=dtype()).eval(), tokenizer


def _projections(hf: Any) -> list[Any]:
    """The output projection of each block's MLP."""
    if hasattr(hf, "transformer"):
        return [block.mlp.c_proj for block in hf.transformer.h]
    return [block.mlp.down_proj for block in hf.model.layers]


def _width(hf: Any) -> int:
    """Neurons of a layer."""
    return getattr(hf.config, "intermediate_size", None) or 4 * hf.config.n_embd


def _in_order(tokenizer: Any, texts: Sequence[str]) -> Iterator[tuple[np.ndarray, Any]]:
    for start in range(0, len(texts), ROWS):
        batch = list(texts[start : start + ROWS])
        yield np.arange(start, start + len(batch)), _padded(tokenizer, batch)


def by_length(
    tokenizer: Any, texts: Sequence[str], width: int, device_type: str = "cpu"
) -> Iterator[tuple[np.ndarray, Any]]:
    """Yield row numbers and padded batches, sorted and packed as in `collect`.

    Args:
        tokenizer: tokenizer of the model.
        texts: the texts.
        width: neurons of a layer, which sets the token budget.
        device_type: type of the device, which sets it too.
    """
    from neva_tl.activations.plan import most_rows, packed, token_budget_for

    lengths = np.array([len(ids) for ids in tokenizer(list(texts), add_special_tokens=False)["input_ids"]])
    budget = token_budget_for(device_type, width)
    for rows in packed(lengths, np.arange(len(texts)), budget, most_rows(budget)):
        yield rows, _padded(tokenizer, [texts[i] for i in rows])


def _padded(tokenizer: Any, texts: list[str]) -> Any:
    return tokenizer(texts, return_tensors="pt", padding=True, add_special_tokens=False)


def _split(rows: np.ndarray, plus: np.ndarray) -> Moments:
    """Mean and M2 of each pole's rows, two passes in float64."""
    means, m2s = [], []
    for pole in (plus, ~plus):
        x = rows[pole].astype(np.float64)
        means.append(x.mean(axis=0))
        m2s.append(np.square(x - means[-1]).sum(axis=0))
    return np.stack(means), np.stack(m2s)


def _mean(x: Any, mask: Any) -> Any:
    """Mean over real tokens, `[b, k]`."""
    weight = mask.float() / mask.sum(dim=1, keepdim=True)
    return (x * weight[..., None]).sum(dim=1)


def _fast_mean(x: Any, mask: Any) -> Any:
    import torch

    return torch.einsum("bn,bnk->bk", mask.float() / mask.sum(dim=1, keepdim=True), x.float())


# ---------------------------------------------------------------- raw PyTorch hooks


def raw_hooks(folder: str) -> Method:
    """Build hooks of PyTorch that store activations; batches of 16, full model."""
    import torch

    hf, tokenizer = _hf(folder)

    @torch.no_grad()
    def run(inputs: Inputs) -> Moments:
        texts, plus = inputs
        stored: dict[int, Any] = {}

        def store(layer: int) -> Callable[..., None]:
            def hook(_module: Any, args: Any, _out: Any) -> None:
                stored[layer] = args[0].detach()

            return hook

        handles = [module.register_forward_hook(store(layer)) for layer, module in enumerate(_projections(hf))]
        pooled = []
        for _, batch in _in_order(tokenizer, texts):
            hf(**batch)
            pooled.append(
                torch.stack([_mean(stored[layer], batch["attention_mask"]) for layer in sorted(stored)], dim=1)
            )
        for handle in handles:
            handle.remove()
        return _split(torch.cat(pooled).numpy(), plus)

    return as_given, run


def raw_hooks_tuned(folder: str) -> Method:
    """Build tuned hooks: sorted and packed, body only, averaged inside the hook."""
    import torch

    hf, tokenizer = _hf(folder)
    body = hf.base_model

    @torch.inference_mode()
    def run(inputs: Inputs) -> Moments:
        texts, plus = inputs
        modules = _projections(hf)
        out = np.empty((len(texts), len(modules), _width(hf)), np.float32)
        state: dict[str, Any] = {}

        def hook(layer: int) -> Callable[..., None]:
            def keep(_module: Any, args: Any) -> None:
                out[state["rows"], layer] = _fast_mean(args[0], state["mask"]).numpy()

            return keep

        handles = [module.register_forward_pre_hook(hook(layer)) for layer, module in enumerate(modules)]
        for rows, batch in by_length(tokenizer, texts, _width(hf)):
            state.update(rows=rows, mask=batch["attention_mask"])
            body(**batch, use_cache=False)
        for handle in handles:
            handle.remove()
        return _split(out, plus)

    return as_given, run


# ---------------------------------------------------------------- TransformerLens


def _bridge(folder: str) -> tuple[Any, Any, list[str]]:
    from transformer_lens.model_bridge import TransformerBridge

    _, tokenizer = _hf(folder)
    model = TransformerBridge.boot_transformers(folder, device="cpu", dtype=dtype())
    model.eval()
    return model, tokenizer, [f"blocks.{layer}.mlp.hook_post" for layer in range(model.cfg.n_layers)]


def transformer_lens(folder: str) -> Method:
    """Build `run_with_cache` with a filter on `hook_post`; batches of 16."""
    import torch

    model, tokenizer, names = _bridge(folder)

    @torch.no_grad()
    def run(inputs: Inputs) -> Moments:
        texts, plus = inputs
        pooled = []
        for _, batch in _in_order(tokenizer, texts):
            _, cache = model.run_with_cache(
                batch["input_ids"], attention_mask=batch["attention_mask"], names_filter=lambda name: name in names
            )
            pooled.append(torch.stack([_mean(cache[name], batch["attention_mask"]) for name in names], dim=1))
        return _split(torch.cat(pooled).numpy(), plus)

    return as_given, run


def transformer_lens_tuned(folder: str) -> Method:
    """Build tuned `run_with_hooks`: sorted and packed, logits of one position."""
    import torch

    model, tokenizer, names = _bridge(folder)

    @torch.inference_mode()
    def run(inputs: Inputs) -> Moments:
        texts, plus = inputs
        out = np.empty((len(texts), len(names), model.cfg.d_mlp), np.float32)
        for rows, batch in by_length(tokenizer, texts, model.cfg.d_mlp):
            mask = batch["attention_mask"]

            def keep(x: Any, hook: Any, rows: Any = rows, mask: Any = mask) -> None:
                out[rows, hook.layer()] = _fast_mean(x, mask).numpy()

            model.run_with_hooks(
                batch["input_ids"],
                return_type=None,
                fwd_hooks=[(name, keep) for name in names],
                attention_mask=mask,
                use_cache=False,
                logits_to_keep=1,
            )
        return _split(out, plus)

    return as_given, run


# ---------------------------------------------------------------- nnsight


def nnsight(folder: str) -> Method:
    """Build a trace per batch of 16 that saves the inputs of all down-projections."""
    import torch
    from nnsight import LanguageModel

    hf, tokenizer = _hf(folder)
    model = LanguageModel(hf, tokenizer=tokenizer)
    modules = _projections(model)

    @torch.no_grad()
    def run(inputs: Inputs) -> Moments:
        texts, plus = inputs
        pooled = []
        for _, batch in _in_order(tokenizer, texts):
            saved = []
            with model.trace(dict(batch)):
                for module in modules:
                    saved.append(module.input.save())
            mask = batch["attention_mask"]
            pooled.append(torch.stack([_mean(x, mask) for x in saved], dim=1))
        return _split(torch.cat(pooled).numpy(), plus)

    return as_given, run


def nnsight_tuned(folder: str) -> Method:
    """Build a tuned trace: sorted and packed, averaged inside, logits of one position."""
    import torch
    from nnsight import LanguageModel

    hf, tokenizer = _hf(folder)
    model = LanguageModel(hf, tokenizer=tokenizer)
    modules = _projections(model)

    @torch.no_grad()
    def run(inputs: Inputs) -> Moments:
        texts, plus = inputs
        out = np.empty((len(texts), len(modules), _width(hf)), np.float32)
        for rows, batch in by_length(tokenizer, texts, _width(hf)):
            mask = batch["attention_mask"]
            weight = mask.float() / mask.sum(dim=1, keepdim=True)
            saved = []
            with model.trace(dict(batch), use_cache=False, logits_to_keep=1):
                for module in modules:
                    mean: Any = torch.einsum("bn,bnk->bk", weight, module.input.float())  # a proxy inside the trace
                    saved.append(mean.save())
            out[rows] = torch.stack(list(saved), dim=1).numpy()
        return _split(out, plus)

    return as_given, run


# ---------------------------------------------------------------- pyvene


def _pyvene(hf: Any) -> Any:
    import pyvene as pv

    # not `mlp_activation` of pyvene: on gated models it is the gate alone, and it keeps one position's width of all positions
    name = (
        "transformer.h[{}].mlp.c_proj.input" if hasattr(hf, "transformer") else "model.layers[{}].mlp.down_proj.input"
    )
    return pv.IntervenableModel(
        pv.IntervenableConfig(
            [
                {
                    "component": name.format(layer),
                    "intervention": pv.CollectIntervention(keep_last_dim=True, embed_dim=_width(hf)),
                }
                for layer in range(hf.config.num_hidden_layers)
            ]
        ),
        model=hf,
    )


def pyvene(folder: str) -> Method:
    """Build collect interventions on all down-projections; batches of 16."""
    import torch

    hf, tokenizer = _hf(folder)
    model = _pyvene(hf)

    @torch.no_grad()
    def run(inputs: Inputs) -> Moments:
        texts, plus = inputs
        pooled = []
        for _, batch in _in_order(tokenizer, texts):
            everywhere = list(range(batch["input_ids"].shape[1]))
            (_, saved), _ = model(base=dict(batch), unit_locations={"base": everywhere})
            pooled.append(torch.stack([_mean(x, batch["attention_mask"]) for x in saved], dim=1))
        return _split(torch.cat(pooled).numpy(), plus)

    return as_given, run


def pyvene_tuned(folder: str) -> Method:
    """Build tuned interventions: sorted, packed, no gathering, logits of one position."""
    import torch

    hf, tokenizer = _hf(folder)
    model = _pyvene(hf)

    @torch.inference_mode()
    def run(inputs: Inputs) -> Moments:
        texts, plus = inputs
        out = np.empty((len(texts), hf.config.num_hidden_layers, _width(hf)), np.float32)
        for rows, batch in by_length(tokenizer, texts, _width(hf)):
            (_, saved), _ = model(base=dict(batch) | {"use_cache": False, "logits_to_keep": 1})
            out[rows] = torch.stack([_fast_mean(x, batch["attention_mask"]) for x in saved], dim=1).numpy()
        return _split(out, plus)

    return as_given, run


# ---------------------------------------------------------------- the matrix products alone


def products(folder: str) -> Method:
    """Build the blocks' matrix products alone, in batches of `collect`'s size: no moments, only the time."""
    from common.floor import Products

    hf, tokenizer = _hf(folder)
    floor = Products(hf, dtype())
    nothing = np.empty(0)

    def prepare(texts: Sequence[str], _plus: np.ndarray) -> int:
        return sum(len(ids) for ids in tokenizer(list(texts), add_special_tokens=False)["input_ids"])

    def run(tokens: int) -> Moments:
        for start in range(0, tokens, floor.rows):
            floor.seconds(min(floor.rows, tokens - start))
        return nothing, nothing

    return prepare, run


#: Name of the matrix products alone in the tables.
FLOOR = "matrix products"
#: Name in the tables -> builder. The first is the reference of all others.
METHODS: dict[str, Callable[[str], Method]] = {
    "neva_tl": ours,
    "neva_tl, post only": ours_post_only,
    "raw hooks": raw_hooks,
    "raw hooks, tuned": raw_hooks_tuned,
    "TransformerLens": transformer_lens,
    "TransformerLens, tuned": transformer_lens_tuned,
    "nnsight": nnsight,
    "nnsight, tuned": nnsight_tuned,
    "pyvene": pyvene,
    "pyvene, tuned": pyvene_tuned,
}
#: Peers as their documentation shows.
DOCUMENTED = tuple(name for name in METHODS if "tuned" not in name and "neva_tl" not in name)
TUNED = tuple(name for name in METHODS if "tuned" in name)
#: All that `timed` can run: the methods, and the products alone, which have no moments.
RUNNABLE = METHODS | {FLOOR: products}
