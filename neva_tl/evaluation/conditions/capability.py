"""Capability under edits: perplexity and KL on held-out neutral text, and multiple-choice accuracy.

These are the quick measures of a study. Public benchmarks, scored by their own conventions, are in `benchmarks/`.

All tokens of neutral text count as generated for token scopes; otherwise an edit restricted to generated tokens would
appear to be free. Role prompts precede each text, and only the tokens of the text are compared.
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

from neva_tl.core.arguments import check_arguments
from neva_tl.core.brief import brief
from neva_tl.core.errors import InputError
from neva_tl.editing import Edit, as_edits, edit, rewrite
from neva_tl.evaluation.benchmarks.metrics import lead
from neva_tl.models import Model, inference
from neva_tl.prompts.example import Example
from neva_tl.prompts.neutral import neutral_texts

Edits = Edit | Sequence[Edit] | None
#: Tokens of a neutral batch, padding included; its logits take this x vocabulary x 4 bytes.
TOKEN_BUDGET = 1024


@dataclass(frozen=True, eq=False)
class Reference:
    """Predictions of the unedited model on neutral texts, computed once and compared with every condition.

    Attributes:
        texts: The texts.
        tokens: Per text, the ids of the scored tokens.
        loss: Per text and token, minus log-probability (nats).
        logprobs: Per text, the full distribution at every scored token, in half precision on the CPU (2 bytes x tokens x
            vocabulary: 300 MB for 3 000 tokens of a vocabulary of 49 000).

    Example:
        >>> reference = nv.evaluation.reference(model, nv.demo.neutral_texts("test", 4))
        >>> len(reference.texts), reference.logprobs[0].shape[1]
        (4, 1001)
    """

    texts: tuple[str, ...]
    tokens: tuple[Int[np.ndarray, " _"], ...]
    loss: tuple[Float[np.ndarray, " _"], ...]
    logprobs: tuple[Float[Tensor, "_ d_vocab"], ...]

    __repr__ = brief


@check_arguments
def reference(model: Model, texts: Sequence[str], *, token_budget: int = TOKEN_BUDGET) -> Reference:
    """Run the unedited model over neutral texts and store its distributions.

    Args:
        model: A TransformerLens model.
        texts: The neutral texts.
        token_budget: Padded tokens of a batch.

    Raises:
        InputError: No texts, or a text with fewer than two tokens.

    Example:
        >>> reference = nv.evaluation.reference(model, nv.demo.neutral_texts("test", 4))
        >>> nv.capability(model, edit, reference)["kl"] >= 0
        True
    """
    if not texts:
        raise InputError("capability needs neutral texts: there are none")
    n = len(texts)
    tokens: list[np.ndarray] = [np.zeros(0, dtype=np.int64)] * n
    loss: list[np.ndarray] = [np.zeros(0)] * n
    distributions: list[Tensor] = [torch.zeros(0, 0)] * n
    for index, ids, logprobs in _distributions(model, [Example("", text) for text in texts], None, token_budget):
        tokens[index] = ids.numpy()
        loss[index] = -logprobs.gather(1, ids[:, None]).squeeze(1).double().numpy()
        distributions[index] = logprobs.half()
    return Reference(tuple(texts), tuple(tokens), tuple(loss), tuple(distributions))


@check_arguments
def neutral_table(
    model: Model, edits: Edits, texts: Sequence[str] | Reference, *, token_budget: int = TOKEN_BUDGET
) -> pd.DataFrame:
    """Measure loss and KL of each neutral text under edits in one forward pass.

    KL(unedited || edited) at a token is over the whole vocabulary. The unedited distribution is the half-precision one
    of `Reference`, normalised again, which changes the KL by about 1e-6 nats.

    Args:
        model: A TransformerLens model.
        edits: An edit, or several; None for the unedited model.
        texts: Neutral texts, or their `reference`.
        token_budget: Padded tokens of a batch.

    Returns:
        One row per text: `text` (its number), `tokens`, `loss` and `kl` (sums in nats over those tokens).

    Example:
        >>> table = nv.evaluation.neutral_table(model, edit, nv.demo.neutral_texts("test", 4))
        >>> table.columns.tolist()
        ['text', 'tokens', 'loss', 'kl']
    """
    base = texts if isinstance(texts, Reference) else reference(model, texts, token_budget=token_budget)
    role = rewrite(edits, "")
    rows: list[dict[str, float]] = []
    with edit(model, *as_edits(edits)) as session:
        examples = [Example(role, text) for text in base.texts]
        for index, ids, logprobs in _distributions(model, examples, session, token_budget):
            # a role prompt may change the tokens of the first word: compare only the common last tokens
            same = _common_end(base.tokens[index], ids.numpy())
            ids, logprobs = ids[len(ids) - same :], logprobs[len(logprobs) - same :]
            stored = base.logprobs[index]
            plain = torch.log_softmax(stored[len(stored) - same :].float(), dim=-1)
            kl = (plain.exp() * (plain - logprobs)).sum(dim=-1)
            loss = -logprobs.gather(1, ids[:, None]).sum()
            rows.append({"text": index, "tokens": same, "loss": float(loss), "kl": float(kl.double().sum())})
    return pd.DataFrame(rows).sort_values("text", ignore_index=True)


@check_arguments
def multiple_choice(
    model: Model, edits: Edits, questions: pd.DataFrame, *, chat: bool | None = None, token_budget: int = 4096
) -> pd.DataFrame:
    """Answer multiple-choice questions by the per-token (length-normalised) log-probability of each option.

    Args:
        model: A TransformerLens model.
        edits: An edit, or several; None for the unedited model.
        questions: `prompt`, `options` (a sequence of texts), `answer` (the right option, or its index).
        chat: Force or forbid the chat template; None uses it where the tokenizer has one.
        token_budget: Padded tokens of a batch.

    Returns:
        One row per question: `prompt, chosen, answer` (indices), `correct`, `margin` (lead of the right option over the
        best wrong one, in nats per token).

    Raises:
        InputError: A column is missing, a question has fewer than two options, or its answer is not among them.

    Example:
        >>> answers = nv.evaluation.multiple_choice(model, None, nv.demo.neutral_questions("test", 4))
        >>> len(answers)
        4
    """
    for column in ("prompt", "options", "answer"):
        if column not in questions.columns:
            raise InputError(
                f"multiple-choice questions lack the column {column!r}: they need prompt, options and answer"
            )
    prompts = [rewrite(edits, str(prompt)) for prompt in questions["prompt"]]
    options = [[str(option) for option in choices] for choices in questions["options"]]
    answers = [_answer_index(k, o, a) for k, (o, a) in enumerate(zip(options, questions["answer"], strict=True))]
    examples = [Example(prompt, option) for prompt, choices in zip(prompts, options, strict=True) for option in choices]
    with edit(model, *as_edits(edits)) as session:
        total, count = inference.answer_logprobs(model, examples, session=session, chat=chat, token_budget=token_budget)
    mean = np.asarray(total) / np.maximum(np.asarray(count), 1)
    rows, start = [], 0
    for prompt, choices, answer in zip(questions["prompt"], options, answers, strict=True):
        score = mean[start : start + len(choices)]
        start += len(choices)
        best = int(np.argmax(score))
        margin = lead(score, answer)
        rows.append({"prompt": prompt, "chosen": best, "answer": answer, "correct": best == answer, "margin": margin})
    return pd.DataFrame(rows, columns=["prompt", "chosen", "answer", "correct", "margin"])


@check_arguments
def capability(
    model: Model,
    edits: Edits,
    texts: Sequence[str] | Reference | None = None,
    questions: pd.DataFrame | None = None,
    *,
    chat: bool | None = None,
) -> dict[str, float]:
    """Measure capability under edits.

    Args:
        model: A TransformerLens model.
        edits: An edit, or several; None for the unedited model.
        texts: Held-out neutral texts, or their `reference` to compare many conditions; default: those of neva_tl (test
            split).
        questions: Multiple-choice questions (see `multiple_choice`); None or empty omits the accuracy.
        chat: Force or forbid the chat template of the questions; neutral text never uses it.

    Returns:
        `perplexity` (exp of the mean loss over all tokens), `kl` (mean nats per token from the unedited model) and,
        with questions, `accuracy`.

    Example:
        >>> table = nv.capability(model, edit, nv.demo.neutral_texts("test", 4))
        >>> sorted(table)
        ['kl', 'perplexity']
    """
    table = neutral_table(model, edits, neutral_texts("test") if texts is None else texts)
    tokens = float(table["tokens"].sum())
    with np.errstate(over="ignore"):
        result = {
            "perplexity": float(np.exp(table["loss"].sum() / tokens)),
            "kl": float(table["kl"].sum() / tokens),
        }
    if questions is not None and len(questions):
        result["accuracy"] = float(multiple_choice(model, edits, questions, chat=chat)["correct"].mean())
    return result


def _distributions(
    model: Model, examples: Sequence[Example], session: inference.TokenSession | None, token_budget: int
) -> Iterator[tuple[int, Int[Tensor, " t"], Float[Tensor, "t d_vocab"]]]:
    """Yield each example's index, scored tokens, and the log-probabilities that predict them (float32, CPU)."""
    for rows, batch in inference.batches(model, examples, token_budget=token_budget, chat=False):
        logits = inference.forward_batch(model, batch, session=session)
        assert logits is not None
        for row, index in enumerate(rows):
            scored = batch.answer[row, 1:]
            ids = batch.tokens[row, 1:][scored].cpu()
            if not len(ids):
                raise InputError(f"neutral text {int(index)} has fewer than two tokens: no token can be predicted")
            yield int(index), ids, torch.log_softmax(logits[row, :-1][scored].float(), dim=-1).cpu()


def _common_end(a: Int[np.ndarray, " n"], b: Int[np.ndarray, " m"]) -> int:
    """Return the length of the longest common ending of two token sequences (at least 1)."""
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
            raise InputError(f"question {number}: the answer {answer!r} is not one of its options")
        return list(options).index(answer)
    if not 0 <= int(answer) < len(options):
        raise InputError(f"question {number}: answer {answer} is not an index of its {len(options)} options")
    return int(answer)
