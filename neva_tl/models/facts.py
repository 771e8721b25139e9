"""Facts about a model: sizes, tokenizer, fingerprint."""

from __future__ import annotations

import copy
from typing import TYPE_CHECKING, Annotated, Any, TypeGuard

from torch import Tensor, nn

from neva_tl.core.arguments import check_arguments
from neva_tl.core.errors import InputError
from neva_tl.core.kinds import EDITABLE_MODEL
from neva_tl.models.checkpoint import end_tokens as checkpoint_end_tokens
from neva_tl.models.hf_model import PlainModel
from neva_tl.models.identity import function_facts
from neva_tl.models.types import BridgeModel, Memo, Model, ModelInfo
from neva_tl.models.weight_hash import hash_tokenizer, hash_weights

if TYPE_CHECKING:
    #: A model that edits can work on: also a plain transformers model (see `models.plain`).
    EditableModel = Model | PlainModel
else:
    EditableModel = Annotated[Any, EDITABLE_MODEL]

#: Facts about living models, computed once.
MEMO = Memo()
#: Checks of a model's weights against its own pass, which `weights_changed` forgets.
WEIGHT_CHECKS = ("head", "additivity", "gradient")


def is_model(thing: Any) -> TypeGuard[Model]:
    """Whether this is a TransformerLens model (either class).

    Example:
        >>> nv.models.is_model(model), nv.models.is_model("demo")
        (True, False)
    """
    return isinstance(thing, nn.Module) and hasattr(thing, "cfg") and hasattr(thing, "run_with_cache")


def is_bridge(model: Model) -> TypeGuard[BridgeModel]:
    """Whether the model is a `TransformerBridge` (TransformerLens 4)."""
    return hasattr(model, "original_model")


@check_arguments
def info(model: EditableModel) -> ModelInfo:
    """Sizes and properties of a model.

    Raises:
        InputError: Not a TransformerLens model.

    Example:
        >>> info = nv.models.info(model)
        >>> info.n_layers, info.d_model, info.d_mlp, info.gated
        (4, 128, 384, True)
    """
    if isinstance(model, PlainModel):
        return model.facts.info
    if not is_model(model):
        raise InputError(f"expected a TransformerLens model (neva_tl.load gives one), not {type(model).__name__}")
    parameter = next(model.parameters())
    key = ("info", parameter.dtype, parameter.device)  # the user may move a model
    return MEMO.get(model, key, lambda: _info(model, parameter))


def _info(model: Model, parameter: Tensor) -> ModelInfo:
    cfg = model.cfg
    heads = int(cfg.n_heads)
    name = MEMO.get(model, "name", lambda: str(getattr(cfg, "model_name", None) or type(model).__name__))
    kind = str(getattr(cfg, "normalization_type", "") or "")
    raw = raw_tokenizer(model)
    architecture = getattr(cfg, "original_architecture", None) or getattr(cfg, "architecture", None)
    return ModelInfo(
        name=name,
        architecture=str(architecture or type(model).__name__),
        n_layers=int(cfg.n_layers),
        d_model=int(cfg.d_model),
        d_mlp=_n_neurons(model),
        n_heads=heads,
        n_kv_heads=int(getattr(cfg, "n_key_value_heads", None) or heads),
        d_head=int(cfg.d_head),
        d_vocab=int(cfg.d_vocab),
        n_ctx=int(cfg.n_ctx),
        gated=bool(getattr(cfg, "gated_mlp", False)),
        chat=bool(getattr(raw, "chat_template", None)),
        positional=str(getattr(cfg, "positional_embedding_type", "standard")),
        normalisation="rms" if kind.upper().startswith("RMS") else ("layernorm" if kind else "none"),
        activation=str(getattr(cfg, "act_fn", "") or ""),
        dtype=str(parameter.dtype).removeprefix("torch."),
        device=str(parameter.device),
        tl_class=type(model).__name__,
    )


def _n_neurons(model: Model) -> int:
    """Rows of the first block's output projection: TransformerLens's own figure is a guess where it reads no width.

    (OPT's and XGLM's `ffn_dim`, and LFM 2, which rounds its width.)
    """
    down = getattr(getattr(model.blocks[0], "mlp", None), "W_out", None)
    return int(down.shape[0]) if isinstance(down, Tensor) and down.ndim == 2 else int(model.cfg.d_mlp or 0)


def raw_tokenizer(model: Model) -> Any:
    """The tokenizer, or None."""
    return MEMO.get(model, "tokenizer", lambda: getattr(model, "tokenizer", None))


@check_arguments
def tokenizer(model: Model) -> Any:
    """The tokenizer of the checkpoint (models from `load`), else the one TransformerLens keeps.

    Raises:
        InputError: The model has no tokenizer.

    Example:
        >>> nv.models.tokenizer(model)("mara says")["input_ids"][-2:]
        [519, 777]
    """
    raw = raw_tokenizer(model)
    if raw is None:
        raise InputError(f"{info(model).name} has no tokenizer: give the model one (tokenizer=...)")
    return raw


def end_tokens(model: Model) -> frozenset[int]:
    """Token ids at which the checkpoint's own generation ends (generation_config.json may list several).

    Example:
        >>> end = nv.models.end_tokens(model)
        >>> all(isinstance(token, int) for token in end)
        True
    """
    return MEMO.get(model, "end tokens", lambda: checkpoint_end_tokens(getattr(model, "original_model", None)))


@check_arguments
def fingerprint(model: EditableModel) -> dict[str, Any]:
    """Identity of a model: architecture, sizes, sha256 of tokenizer and weights, and facts about its function.

    `weights_hash` is version 0.1's: the same weights in the same dtype give the same one as `TransformerBridge` and as
    `HookedTransformer`. `function` has what that hash leaves out (see `identity.function_facts`); compare two fingerprints
    with `fingerprint_difference`. `matmul` is present for models whose matrix products are in bfloat16.
    Folded or centred weights are other weights. Cached per model and dtype; later in-place weight changes are not
    detected unless `weights_changed` is called.

    Example:
        >>> nv.fingerprint(model)["architecture"], len(nv.fingerprint(model)["weights_hash"])
        ('LlamaForCausalLM', 64)
    """
    if isinstance(model, PlainModel):
        return copy.deepcopy(dict(model.facts.fingerprint))
    facts = info(model)
    return {
        "architecture": facts.architecture,
        "n_layers": facts.n_layers,
        "d_model": facts.d_model,
        "d_mlp": facts.d_mlp,
        "n_heads": facts.n_heads,
        "d_vocab": facts.d_vocab,
        "dtype": facts.dtype,
        "tokenizer_hash": MEMO.get(model, "tokenizer_hash", lambda: hash_tokenizer(raw_tokenizer(model))),
        "weights_hash": MEMO.get(
            model,
            ("weights_hash", next(model.parameters()).dtype),
            lambda: hash_weights(model),
        ),
        "function": copy.deepcopy(MEMO.get(model, _function_key(model), lambda: _function(model))),
        # only where it differs from the default: cache keys made before stay
        **({"matmul": matmul} if (matmul := MEMO.get(model, "matmul", str)) else {}),
    }


def weight_check_key(model: Model, name: str) -> tuple[str, Any, Any]:
    """Key of one of `WEIGHT_CHECKS` in `MEMO`, for the model's dtype and device.

    Args:
        model: The model.
        name: Name of the check.
    """
    parameter = next(model.parameters())
    return name, parameter.dtype, parameter.device


def _function(model: Model) -> dict[str, Any]:
    return function_facts(model, MEMO.get(model, "config", lambda: None))


def _function_key(model: Model) -> tuple[str, Any]:
    return "function", next(model.parameters()).dtype


def rounded_key(model: Model) -> tuple[str, Any]:
    """Key in `MEMO` of the hashes of the rounded weights (see `dtypes.stored_fingerprint`).

    Args:
        model: The model.
    """
    return "rounded", next(model.parameters()).dtype


def weights_changed(model: Model) -> None:
    """Forget the hash and the checks of the weights after an in-place change; they are made again when next needed.

    Example:
        >>> import torch
        >>> other = nv.load("demo")
        >>> before = nv.fingerprint(other)["weights_hash"]
        >>> with torch.no_grad():
        ...     nv.models.w_in(other, 0).mul_(2.0).shape
        torch.Size([128, 384])
        >>> nv.models.weights_changed(other)
        >>> nv.fingerprint(other)["weights_hash"] == before
        False
    """
    MEMO.drop(model, ("weights_hash", next(model.parameters()).dtype))
    MEMO.drop(model, _function_key(model))
    MEMO.drop(model, rounded_key(model))
    for name in WEIGHT_CHECKS:
        MEMO.drop(model, weight_check_key(model, name))
