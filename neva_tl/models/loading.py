"""Load a model for the installed TransformerLens line: `TransformerBridge` on 4, `HookedTransformer` on 3.9."""

from __future__ import annotations

import importlib.util
import os
from collections.abc import Mapping
from typing import Any

import torch

from neva_tl.core.arguments import check_arguments
from neva_tl.core.errors import InputError
from neva_tl.core.files import first_line
from neva_tl.core.kinds import Count
from neva_tl.core.messages import import_bars
from neva_tl.core.names import did_you_mean, spelling
from neva_tl.models import hooked_transformer, sources
from neva_tl.models.activation_function import fuse
from neva_tl.models.attention_scores import HALF, float32_scores
from neva_tl.models.checkpoint import CheckedClass, TrialPass, architecture_of
from neva_tl.models.checks import check_mlp
from neva_tl.models.comparison import check_causal, compare_with_transformers
from neva_tl.models.facts import MEMO, info, is_model
from neva_tl.models.installers import no_installer
from neva_tl.models.precision import Matmul, auto_dtype, use_bf16_products
from neva_tl.models.quiet import quiet
from neva_tl.models.types import Model


@check_arguments
def load(
    name: Any,
    *,
    device: str | torch.device | None = None,
    dtype: str | torch.dtype = "float32",
    n_ctx: Count | None = None,
    device_map: str | Mapping[str, Any] | None = None,
    matmul: Matmul = "float32",
) -> Model:
    """Load a model for TransformerLens: `TransformerBridge` on TransformerLens 4, `HookedTransformer` on 3.9.

    Args:
        name: `"demo"` (shipped), `"demo:FOLDER"` (another that `neva-tl train-demo` wrote), a short name (`"smollm2"`,
            `"qwen2.5-coder-0.5b"`; `neva-tl models` lists them), a `.gguf` file, a local HF folder, a hub name, or a
            TransformerLens model, which passes through unchanged.
        device: Default: `cuda` if available, else `cpu`.
        dtype: `"float32"`, `"bfloat16"`, `"float16"`, or `"auto"` (bfloat16 on a GPU or CPU that multiplies it, else
            float32). A bridge in half precision computes attention scores in float32.
        n_ctx: Longest context in tokens; default: the checkpoint's own (HookedTransformer: at most 2048).
        device_map: Spread a model over several devices: `"auto"`, `"balanced"`, or a map from modules to devices in
            transformers' form (needs TransformerLens 4). Default: the environment variable `NEVA_TL_DEVICE_MAP`, unless
            `device` is given.
        matmul: `"bf16"` computes the matrix products of a float32 model in bfloat16, where the device has it (relative
            error about 2e-3); activations stay in float32. The fingerprint records it.

    Local names never touch the network. Without a network, a hub name is read from the local hub cache or fails at once:
    reachability is checked (2 s at most) before the hub's client starts its retries.

    Raises:
        InputError: Unknown model, no network, missing package, empty folder, mixture of experts, a demo model of another
            world than the process's, both a device and a map, `matmul="bf16"` with another dtype than float32, or a map that
            leaves weights on disk (selectors read them). Weights that are missing, misnamed or unused; a model that is not
            causal, asks for code of its own, or computes something else than transformers for the same checkpoint.

    One short pass of the loaded model is compared with transformers' own (logits and every layer's down-projection input).
    Not compared, for want of transformers' own model: a TransformerLens model that is passed in, and on TransformerLens 3.9 a
    name that its own table alone knows (`gpt2-small`). Their causality alone is checked.

    Example:
        >>> model = nv.load("demo")
        >>> nv.models.info(model).n_layers
        4
        >>> model = nv.load("smollm2", dtype="bfloat16", device="cuda")  # doctest: +SKIP
    """
    if is_model(name):
        check_causal(name)
        return name
    if device is not None and device_map is not None:
        raise InputError("device and device_map cannot both be given: the map says where each part goes")
    if device is None and device_map is None:
        device_map = os.environ.get("NEVA_TL_DEVICE_MAP") or None
    device = _device(device or ("cuda" if torch.cuda.is_available() else "cpu"))
    kind = _dtype(dtype, device)
    if matmul == "bf16" and kind != torch.float32:
        raise InputError(
            f"matmul='bf16' is for models in float32, and this one is loaded in {kind}: leave out one of the two"
        )
    import_bars()
    source = sources.resolve(name)
    sources.refuse_experts(source)
    sources.refuse_quantised(source)
    with quiet(), no_installer():
        try:
            model, facts, trial = _boot(source, device, kind, n_ctx, device_map)
        except InputError:
            raise
        except Exception as error:  # the libraries raise whatever a damaged config or tokenizer leads to
            raise InputError(
                f"cannot load {os.fspath(name)!r} as a language model ({first_line(error)}): check its config.json and tokenizer"
            ) from error
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
    if matmul == "bf16":
        use_bf16_products(model)
    try:
        check_mlp(model)
        if trial is None:
            check_causal(model)
        else:
            compare_with_transformers(model, trial)
    except InputError:
        raise
    except (ValueError, KeyError, AttributeError, NotImplementedError, RuntimeError, TypeError) as error:
        raise InputError(_unreadable(source.shown, info(model).architecture, error)) from error
    return model


def _unreadable(name: str, architecture: str, error: Exception) -> str:
    """The message of an error that TransformerLens raises for a checkpoint which transformers runs."""
    return f"{name}: TransformerLens cannot run {architecture} with these settings: {first_line(error)}"


def _device(device: str | torch.device) -> torch.device:
    try:
        return torch.device(device.lower() if isinstance(device, str) else device)
    except RuntimeError as error:
        raise InputError(f"unknown device {device!r}: write 'cpu', 'cuda' or 'cuda:0'") from error


def _dtype(dtype: str | torch.dtype, device: torch.device) -> torch.dtype:
    if isinstance(dtype, torch.dtype):
        return dtype
    if dtype == "auto":
        return auto_dtype(device)
    table = {"float32": torch.float32, "bfloat16": torch.bfloat16, "float16": torch.float16, "float64": torch.float64}
    name = spelling(dtype.removeprefix("torch."), table)
    if name is None:
        hint = did_you_mean(dtype, table)
        raise InputError(f"unknown dtype {dtype!r}: {hint}choose one of auto, {', '.join(table)}")
    return table[name]


def _hooked_class() -> Any:
    """`HookedTransformer` where the installed line still has it, else None."""
    # the attribute raises on TransformerLens 4; the presence of the file answers without an import
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
) -> tuple[Model, dict[Any, Any], TrialPass | None]:
    """Boot the TransformerLens model; return it with the facts that only loading knows, and transformers' own trial pass.

    The tokenizer is read a second time, unchanged: TransformerLens changes its own to force a BOS.
    """
    hooked_class = _hooked_class()
    where = str(source.path or source.hub)
    facts: dict[Any, Any] = {}
    tokenizer = sources.read_tokenizer(where, required=source.path is not None)
    if tokenizer is not None:
        facts["tokenizer"] = tokenizer
    if hooked_class is not None and device_map is not None:
        raise InputError("device_map needs TransformerLens 4 (HookedTransformer has none): name one device")
    if hooked_class is not None and source.path is None and source.config is None:
        return hooked_class.from_pretrained_no_processing(where, device=str(device), dtype=dtype), facts, None
    target = None if device_map is not None else device
    checked = CheckedClass(source.shown, target, local=source.path is not None)
    if hooked_class is not None:
        fields = hooked_transformer.config_fields(sources.read_config(where), device, dtype, n_ctx)
        if fields is not None:
            model = hooked_transformer.boot(hooked_class, where, fields, tokenizer, checked)
            return model, facts | {"end tokens": checked.end_tokens}, checked.trial
    from transformer_lens.model_bridge import TransformerBridge

    architecture = architecture_of(source.shown, where)
    options: dict[str, Any] = {} if n_ctx is None else {"n_ctx": n_ctx}
    options |= {"device": str(device)} if device_map is None else {"device_map": device_map}
    try:
        model = TransformerBridge.boot_transformers(where, dtype=dtype, model_class=checked, **options)
    except InputError:
        raise
    except (ValueError, KeyError, AttributeError, NotImplementedError, RuntimeError) as error:
        if checked.trial is None:  # not TransformerLens: the checkpoint itself
            raise
        raise InputError(_unreadable(source.shown, architecture, error)) from error
    fuse(model)
    if dtype in HALF:
        float32_scores(model)
    return model, facts | {"end tokens": checked.end_tokens}, checked.trial
