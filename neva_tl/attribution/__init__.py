"""Attribution: effects of neurons on tokens and on margins of values, and the logit lens.

Effects on tokens are measured by the direct path (exact for a frozen norm) and by gradient (first order, all paths). The
logit lens compares an edited run with the unedited one. Each of them compares itself with the model once, and refuses what does
not add up (`self_check`).
"""

from neva_tl.attribution.decompose import Decomposition, logit_attribution, pre_activation
from neva_tl.attribution.direct import direct_logits, frozen_scale, readout
from neva_tl.attribution.gradient import gradient_effects
from neva_tl.attribution.lens import lens_tokens, logit_lens
from neva_tl.attribution.margin import MarginEffects, margin_effects
from neva_tl.attribution.outputs import output_scales
from neva_tl.attribution.tokens import default_words, token_text, value_tokens, without_token

__all__ = [
    "Decomposition",
    "MarginEffects",
    "default_words",
    "direct_logits",
    "frozen_scale",
    "gradient_effects",
    "lens_tokens",
    "logit_attribution",
    "logit_lens",
    "margin_effects",
    "output_scales",
    "pre_activation",
    "readout",
    "token_text",
    "value_tokens",
    "without_token",
]
