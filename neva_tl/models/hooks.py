"""Hook points: names, permanent hooks, and hooks for the length of a `with` block."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from contextlib import ExitStack, contextmanager
from typing import Any

import torch
from torch import Tensor
from torch.utils.hooks import RemovableHandle

from neva_tl.core.errors import InputError
from neva_tl.models.facts import MEMO, EditableModel, info
from neva_tl.models.hf_model import PlainModel
from neva_tl.models.types import HookHandle, Model


@contextmanager
def temporary_hooks(model: EditableModel, functions: Iterable[tuple[str, Callable[..., Any]]]) -> Iterator[None]:
    """Add functions to hook points for the length of the block, as `add_hook` does.

    Args:
        model: The model.
        functions: (hook point, function) pairs.

    Raises:
        InputError: The model has no such hook point; no hook is left on.
    """
    with ExitStack() as stack:
        for name, fn in functions:
            stack.callback(add_hook(model, name, fn).remove)
        yield


@contextmanager
def record_hooks(
    model: EditableModel, names: Iterable[str], keep: Callable[[Tensor], Tensor] | None = None
) -> Iterator[dict[str, Tensor]]:
    """Record the activations at hook points in the latest forward pass, by name.

    Args:
        model: The model.
        names: The hook points.
        keep: Function of an activation whose result is stored; by default a detached copy, since another hook may change
            the tensor in place later.

    Yields:
        Hook point -> recorded activation.
    """
    activations: dict[str, Tensor] = {}

    def recorder(name: str) -> Callable[..., None]:
        def record(x: Tensor, **_: Any) -> None:
            activations[name] = x.detach().clone() if keep is None else keep(x)

        return record

    with temporary_hooks(model, [(name, recorder(name)) for name in dict.fromkeys(names)]):
        yield activations


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


def hook_name(model: EditableModel, layer: int, site: str) -> str:
    """Name of a hook point.

    Args:
        model: The model.
        layer: 0-based.
        site: `post` (the down-projection's input, `[b, n, d_mlp]`), `gate` and `pre` (input of the MLP's activation
            function; the gate's own activation is `activation(model)` of it), `up` (gated MLPs: the linear
            branch, which the gate multiplies), `resid_pre`, `resid_mid` (before the MLP; not in parallel blocks),
            `resid_post`, `z` (`[b, n, head, d_head]`), `pattern` (`[b, head, query, key]`), `mlp_out`, `attn_out`.

    Raises:
        InputError: Unknown site or layer, or `gate` or `up` on an MLP without gate.

    Example:
        >>> nv.models.hook_name(model, 2, "post")
        'blocks.2.mlp.hook_post'
    """
    facts = info(model)
    if site not in SITES:
        raise InputError(f"unknown site {site!r}: choose one of {', '.join(SITES)}")
    if not 0 <= layer < facts.n_layers:
        raise InputError(f"layer {layer} does not exist: {facts.name} has layers 0 to {facts.n_layers - 1}")
    if site in ("gate", "up") and not facts.gated:
        raise InputError(f"{facts.name} has no gated MLP: site {site!r} does not exist there")
    return f"blocks.{layer}.{SITES[site]}"


def add_hook(model: EditableModel, name: str, fn: Callable[..., Any]) -> HookHandle | RemovableHandle:
    """Add `fn(x, hook=...)` to a hook point; a tensor it returns replaces `x`.

    The hook survives `reset_hooks()` and works in the user's own calls (`model.generate`, `model(...)`).

    Args:
        model: The model.
        name: The hook point.
        fn: The function.

    Returns:
        A handle whose `remove()` removes the hook.

    Raises:
        InputError: The model has no such hook point.

    Example:
        >>> shapes = []
        >>> name = nv.models.hook_name(model, 2, "post")
        >>> handle = nv.models.add_hook(model, name, lambda x, hook: shapes.append(tuple(x.shape)))
        >>> scores, n = nv.answer_logprobs(model, [nv.Example("mara says", "that")])
        >>> handle.remove()
        >>> shapes[0][-1]
        384
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


def has_hooks(model: Model) -> bool:
    """Whether the model has any hook: of an edit, of a recorder or of the user.

    TransformerLens's own hooks do not count: they pass tensors from one hook point to another (OPT, XGLM).

    Example:
        >>> with nv.edit(model, edit):
        ...     inside = nv.models.has_hooks(model)
        ...     texts = nv.generate(model, ["mara says that"], max_new_tokens=1)
        >>> inside, nv.models.has_hooks(model)
        (True, False)
    """
    return any(not _is_relay(entry) for point in model.hook_dict.values() for entry in point.fwd_hooks)


def _is_relay(entry: Any) -> bool:
    """Whether TransformerLens added a hook when it built the model."""
    module = getattr(getattr(entry, "user_hook", None), "__module__", None)
    return module == "transformer_lens.model_bridge.component_setup"


def layer_devices(model: Model) -> list[torch.device]:
    """The device of each layer (they differ where the model was loaded over several devices).

    Example:
        >>> [device.type for device in nv.models.layer_devices(nv.load("demo", device="cpu"))]
        ['cpu', 'cpu', 'cpu', 'cpu']
    """
    return [next(model.blocks[layer].parameters()).device for layer in range(info(model).n_layers)]
