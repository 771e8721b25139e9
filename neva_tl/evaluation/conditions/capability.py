"""What an edit costs: perplexity and KL from the unedited model on held-out neutral text, multiple-choice accuracy.

The quick measures of a study. Public sets, scored by their fields' conventions, are in `benchmarks/`.

All tokens of neutral text count as generated for token scopes, or an edit of generated tokens would cost nothing on
paper. Role prompts are put before each text, and the text's own tokens are compared.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
import torch
from jaxtyping import Float, Int
from torch import Tensor

from neva_tl.core.errors import InputError
from neva_tl.editing import Edit, as_edits, edit, rewrite
from neva_tl.evaluation.benchmarks.metrics import lead
from neva_tl.models import Model, inference
from neva_tl.prompts.example import Example
from neva_tl.prompts.neutral import neutral_texts

Edits = Edit | Sequence[Edit] | None
#: Tokens of a neutral batch, padding included: logits of a batch are this x vocabulary x 4 bytes.
TOKEN_BUDGET = 1024


@dataclass(frozen=True, eq=False)
class Reference:
    """The unedited model on neutral texts, computed once and compared with every condition.

    Attributes:
        texts: the texts.
        tokens: per text, the ids of the tokens that were scored.
        loss: per text and token, minus log-probability (nats).
        logprobs: per text, the whole distribution at every scored token, in half precision on the CPU (2 bytes x
            tokens x
            vocabulary: 300 MB for 3 000 tokens of a vocabulary of 49 000).
    """

    texts: tuple[str, ...]
    tokens: tuple[Int[np.ndarray, " _"], ...]
    loss: tuple[Float[np.ndarray, " _"], ...]
    logprobs: tuple[Float[Tensor, "_ d_vocab"], ...]


def reference(model: Model, texts: Sequence[str], *, token_budget: int = TOKEN_BUDGET) -> Reference:
    """Run the unedited model over neutral texts and keep its distributions.

    Raises:
        InputError: no texts, or one with fewer than two tokens.
    """
    if not texts:
        raise InputError("capability needs neutral texts: there are none")
    n = len(texts)
    tokens: list[np.ndarray] = [np.zeros(0, dtype=np.int64)] * n
    loss: list[np.ndarray] = [np.zeros(0)] * n
    kept: list[Tensor] = [torch.zeros(0, 0)] * n
    for index, ids, logprobs in _distributions(model, [Example("", text) for text in texts], None, token_budget):
        tokens[index] = ids.numpy()
        loss[index] = -logprobs.gather(1, ids[:, None]).squeeze(1).double().numpy()
        kept[index] = logprobs.half()
    return Reference(tuple(texts), tuple(tokens), tuple(loss), tuple(kept))


def neutral_table(
    model: Model, edits: Edits, texts: Sequence[str] | Reference, *, token_budget: int = TOKEN_BUDGET
) -> pd.DataFrame:
    """Loss and KL of each neutral text under edits, one forward pass for both.

    KL(unedited || edited) at a token is over the whole vocabulary; the unedited distribution is the half-precision one
    of `Reference`, normalised again, which moves the KL by about 1e-6 nats.

    Returns:
        One row per text: `text` (its number), `tokens`, `loss` and `kl` (sums in nats over those tokens).
    """
    base = texts if isinstance(texts, Reference) else reference(model, texts, token_budget=token_budget)
    role = rewrite(edits, "")
    rows: list[dict[str, float]] = []
    with edit(model, *as_edits(edits)) as session:
        examples = [Example(role, text) for text in base.texts]
        for index, ids, logprobs in _distributions(model, examples, session, token_budget):
            # a role prompt may change how the text's first word is cut into tokens: compare the tokens both have
            same = _common_end(base.tokens[index], ids.numpy())
            ids, logprobs = ids[len(ids) - same :], logprobs[len(logprobs) - same :]
            stored = base.logprobs[index]
            plain = torch.log_softmax(stored[len(stored) - same :].float(), dim=-1)
            kl = (plain.exp() * (plain - logprobs)).sum(dim=-1)
            loss = -logprobs.gather(1, ids[:, None]).sum()
            rows.append({"text": index, "tokens": same, "loss": float(loss), "kl": float(kl.double().sum())})
    return pd.DataFrame(rows).sort_values("text", ignore_index=True)


def multiple_choice(
    model: Model, edits: Edits, questions: pd.DataFrame, *, chat: bool | None = None, token_budget: int = 4096
) -> pd.DataFrame:
    """Answer multiple-choice questions by the per-token (length-normalised) log-probability of each option.

    Args:
        questions: `prompt`, `options` (a sequence of texts), `answer` (the right option, or its index).
        chat: force or forbid the chat template.

    Returns:
        One row per question: `prompt, chosen, answer` (indices), `correct`, `margin` (nats per token by which the
            right option
        leads the best wrong one).

    Raises:
        InputError: a column is missing, a question has fewer than two options, or its answer is none of them.
    """
    for column in ("prompt", "options", "answer"):
        if column not in questions.columns:
            raise InputError(
                f"multiple-choice questions lack the column {column!r}: they need prompt, options and answer"
            )
    prompts = [rewrite(edits, str(prompt)) for prompt in questions["prompt"]]
    options = [[str(option) for option in found] for found in questions["options"]]
    answers = [_answer_index(k, o, a) for k, (o, a) in enumerate(zip(options, questions["answer"], strict=True))]
    examples = [Example(prompt, option) for prompt, found in zip(prompts, options, strict=True) for option in found]
    with edit(model, *as_edits(edits)) as session:
        total, count = inference.answer_logprobs(model, examples, session=session, chat=chat, token_budget=token_budget)
    mean = np.asarray(total) / np.maximum(np.asarray(count), 1)
    rows, start = [], 0
    for prompt, found, answer in zip(questions["prompt"], options, answers, strict=True):
        score = mean[start : start + len(found)]
        start += len(found)
        chosen = int(np.argmax(score))
        margin = lead(score, answer)
        rows.append(
            {"prompt": prompt, "chosen": chosen, "answer": answer, "correct": chosen == answer, "margin": margin}
        )
    return pd.DataFrame(rows, columns=["prompt", "chosen", "answer", "correct", "margin"])


def capability(
    model: Model,
    edits: Edits,
    texts: Sequence[str] | Reference | None = None,
    questions: pd.DataFrame | None = None,
    *,
    chat: bool | None = None,
) -> dict[str, float]:
    """Capability under edits; call it with `edits=None` for the unedited model.

    Args:
        texts: held-out neutral texts, or their `reference` where many conditions are compared; default: neva_tl's own
            (test).
        questions: multiple-choice questions (see `multiple_choice`); None or empty leaves accuracy out.
        chat: of the questions; neutral text is always plain.

    Returns:
        `perplexity` (exp of the mean loss over all tokens), `kl` (mean nats per token from the unedited model) and,
        with questions, `accuracy`.
    """
    table = neutral_table(model, edits, neutral_texts("test") if texts is None else texts)
    tokens = float(table["tokens"].sum())
    with np.errstate(over="ignore"):
        found = {
            "perplexity": float(np.exp(table["loss"].sum() / tokens)),
            "kl": float(table["kl"].sum() / tokens),
        }
    if questions is not None and len(questions):
        found["accuracy"] = float(multiple_choice(model, edits, questions, chat=chat)["correct"].mean())
    return found


def _distributions(
    model: Model, examples: Sequence[Example], session: inference.TokenSession | None, token_budget: int
) -> Iterator[tuple[int, Int[Tensor, " t"], Float[Tensor, "t d_vocab"]]]:
    """Per example: its number, the scored tokens, and the log-probabilities in front of each (float32, CPU)."""
    for rows, batch in inference.batches(model, examples, token_budget=token_budget, chat=False):
        logits = inference.forward_batch(model, batch, session=session)
        assert logits is not None
        for place, index in enumerate(rows):
            scored = batch.answer[place, 1:]
            ids = batch.tokens[place, 1:][scored].cpu()
            if not len(ids):
                raise InputError(f"neutral text {int(index)} has fewer than two tokens: nothing to predict")
            yield int(index), ids, torch.log_softmax(logits[place, :-1][scored].float(), dim=-1).cpu()


def _common_end(a: Int[np.ndarray, " n"], b: Int[np.ndarray, " m"]) -> int:
    """Length of the longest common ending of two token sequences (at least 1 is needed to compare anything)."""
    size = min(len(a), len(b))
    differs = np.flatnonzero(a[len(a) - size :][::-1] != b[len(b) - size :][::-1])
    same = int(differs[0]) if len(differs) else size
    if same < 1:
        raise InputError("a neutral text under a role prompt shares no token with the text alone: leave it out")
    return same


def _answer_index(number: int, options: Sequence[str], answer: Any) -> int:
    if len(options) < 2:
        raise InputError(f"question {number} has fewer than two options")
    if isinstance(answer, str):
        if answer not in options:
            raise InputError(f"question {number}: the answer {answer!r} is none of its options")
        return list(options).index(answer)
    if not 0 <= int(answer) < len(options):
        raise InputError(f"question {number}: answer {answer} is no index of its {len(options)} options")
    return int(answer)
