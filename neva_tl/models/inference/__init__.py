"""Running a model: encoding, scoring and generation.

Every forward pass goes through `models.forward`. An edit session (see `neva_tl.editing`) learns before each pass which tokens
count as generated: answer tokens and neutral text do; otherwise an edit restricted to generated tokens would appear to be free.
"""

from neva_tl.models.inference.chat_template import NEUTRAL_TURN, TEMPLATE_DATE, set_template, template_settings
from neva_tl.models.inference.encoding import (
    Batch,
    Encoded,
    batches,
    encode,
    encode_continuations,
    encode_one,
    encoding_change,
    encoding_record,
    group,
    pad,
    pad_id,
    prepends_bos,
    uses_chat,
)
from neva_tl.models.inference.generation import generate, stop_ids
from neva_tl.models.inference.prompt_cache import Prefill, PrefixCache
from neva_tl.models.inference.scoring import (
    answer_greedy,
    answer_logprobs,
    encoded_logprobs,
    forward_batch,
    neutral_logprobs,
    token_kl,
)
from neva_tl.models.inference.session import PromptState, TokenSession, in_force, registered

__all__ = [
    "NEUTRAL_TURN",
    "TEMPLATE_DATE",
    "Batch",
    "Encoded",
    "Prefill",
    "PrefixCache",
    "PromptState",
    "TokenSession",
    "answer_greedy",
    "answer_logprobs",
    "batches",
    "encode",
    "encode_continuations",
    "encode_one",
    "encoded_logprobs",
    "encoding_change",
    "encoding_record",
    "forward_batch",
    "generate",
    "group",
    "in_force",
    "neutral_logprobs",
    "pad",
    "pad_id",
    "prepends_bos",
    "registered",
    "set_template",
    "stop_ids",
    "template_settings",
    "token_kl",
    "uses_chat",
]
