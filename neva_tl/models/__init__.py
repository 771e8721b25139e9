"""Models: the only room that knows TransformerLens versions and architectures.

TransformerLens 4 has `TransformerBridge`; 3.9 also has `HookedTransformer`. `load` returns the class of the installed line.
Every function here works on both, so the other rooms never ask which one they hold.
"""

from neva_tl.models.activation_function import activation, gate_modules
from neva_tl.models.adapt import plain
from neva_tl.models.checks import check_mlp
from neva_tl.models.dtypes import fingerprint_for, stored_fingerprint
from neva_tl.models.facts import EditableModel, end_tokens, fingerprint, info, is_model, tokenizer, weights_changed
from neva_tl.models.forward_pass import forward, packable, resuming
from neva_tl.models.head import logit_scale, logits_of
from neva_tl.models.hf_model import PlainModel
from neva_tl.models.hooked_transformer import own_padding_mask
from neva_tl.models.hooks import SITES, add_hook, has_hooks, hook_name, layer_devices
from neva_tl.models.identity import fingerprint_difference, function_difference, note_old
from neva_tl.models.loading import load
from neva_tl.models.passes import KVCache
from neva_tl.models.resume import LayerCache
from neva_tl.models.types import FinalNorm, HookHandle, Model, ModelInfo
from neva_tl.models.weights import (
    b_u,
    biases,
    final_norm,
    logit_soft_cap,
    mlp_norm,
    output_factor,
    output_norm,
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
    "EditableModel",
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
    "end_tokens",
    "final_norm",
    "fingerprint",
    "fingerprint_difference",
    "fingerprint_for",
    "forward",
    "function_difference",
    "gate_modules",
    "has_hooks",
    "hook_name",
    "info",
    "is_model",
    "layer_devices",
    "load",
    "logit_scale",
    "logit_soft_cap",
    "logits_of",
    "mlp_norm",
    "note_old",
    "output_factor",
    "output_norm",
    "own_padding_mask",
    "packable",
    "parallel_blocks",
    "plain",
    "resuming",
    "stored_fingerprint",
    "tokenizer",
    "w_e",
    "w_gate",
    "w_in",
    "w_o",
    "w_out",
    "w_u",
    "weights_changed",
]
