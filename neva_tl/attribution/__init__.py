"""Effects of neurons on tokens: by the direct path (exact for frozen norm) and by gradient (first order, all paths)."""

from neva_tl.attribution.direct import direct_logits, frozen_scale, readout
from neva_tl.attribution.gradient import gradient_effects
from neva_tl.attribution.tokens import default_words, token_text, value_tokens

__all__ = [
    "default_words",
    "direct_logits",
    "frozen_scale",
    "gradient_effects",
    "readout",
    "token_text",
    "value_tokens",
]
