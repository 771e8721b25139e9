"""Answers of a local instruct model to Yes/No questions about a text: log-odds of Yes over No.

The log-odds are `logsumexp` of the logits of the Yes tokens minus that of the No tokens, at the first position of the answer,
in float32. A text runs once; the questions run over its key-value cache (`inference.branches`).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import cached_property
from typing import Any
from weakref import WeakValueDictionary

import numpy as np
import torch
from jaxtyping import Float

from neva_tl import models
from neva_tl.core.cache import content_key
from neva_tl.core.errors import InputError
from neva_tl.core.theories import Value
from neva_tl.evaluation.judges.endorsement import (
    NO,
    SYSTEM,
    VERSION,
    YES,
    Direction,
    message,
    question,
    without_tokens,
)
from neva_tl.models import inference, sources
from neva_tl.models.inference.branches import branch_logits
from neva_tl.prompts.example import Example

#: Longest text with its prompt and question, in tokens; a longer text loses its end.
LONGEST = 2048
#: Number of texts that are encoded at once.
_CHUNK = 64
#: Answer of models without a chat template.
_PLAIN_END = "\nAnswer:"
#: Models that a judge of this process uses, by source and dtype: two judges of one model share its memory.
_MODELS: WeakValueDictionary[tuple[str, str], Any] = WeakValueDictionary()

#: A text, its prompt ("" for none), and the values and directions of the questions.
Request = tuple[str, str, Sequence[Value], Sequence[Direction]]


class LocalAnswers:
    """A local model that answers Yes/No questions; the model is loaded when it is first needed.

    Args:
        model: Argument of `neva_tl.load`, or a loaded TransformerLens model.
        dtype: Number format of a model that is loaded here.
        token_budget: See `branch_logits`.
    """

    def __init__(self, model: Any, *, dtype: str = "auto", token_budget: int = 8192) -> None:
        self.source, self.dtype, self.token_budget = model, dtype, token_budget

    @property
    def label(self) -> str:
        """Name of the model, without a user's path."""
        return sources.label(self.source) if isinstance(self.source, str) else models.info(self.source).name

    def check(self) -> None:
        """Check that the model exists, without loading it.

        Raises:
            InputError: See `neva_tl.load`.
        """
        if isinstance(self.source, str):
            sources.resolve(self.source)

    def is_source(self, name: str) -> bool:
        """Return whether another name leads to the same model folder or hub model.

        Args:
            name: Argument of `neva_tl.load`.
        """
        try:
            return isinstance(self.source, str) and _place(self.source) == _place(name)
        except InputError:  # the load of that model says why
            return False

    @cached_property
    def model(self) -> models.Model:
        """The model without edits: an instance of its own unless a loaded one was passed."""
        if not isinstance(self.source, str):
            return self.source  # type: ignore[no-any-return]
        key = (_place(self.source), self.dtype)
        model = _MODELS.get(key)
        if model is None:
            model = models.load(self.source, dtype=self.dtype)
            _MODELS[key] = model
        return model  # type: ignore[no-any-return]

    @cached_property
    def identity(self) -> str:
        """Hash of the model's fingerprint, its template and the version of the question."""
        return content_key(
            "yes-no answers", VERSION, SYSTEM, models.fingerprint(self.model), inference.encoding_record(self.model)
        )

    @cached_property
    def _tokens(self) -> tuple[list[int], list[int]]:
        tokenizer = models.tokenizer(self.model)
        return answer_tokens(tokenizer, YES, NO)

    @cached_property
    def _special(self) -> tuple[str, ...]:
        tokenizer = models.tokenizer(self.model)
        added = {str(token) for token in tokenizer.added_tokens_decoder.values() if token.special}
        return tuple(sorted({str(token) for token in tokenizer.all_special_tokens} | added, key=len, reverse=True))

    @cached_property
    def _system_turn(self) -> bool:
        """Whether the template accepts a system message; otherwise it precedes the text."""
        if not models.info(self.model).chat:
            return False
        try:
            inference.encode_one(self.model, [Example("a", "", turns=(("system", SYSTEM),))])
        except InputError:
            return False
        return True

    def ask(
        self,
        requests: Sequence[Request],
        update: Callable[[Sequence[int], Sequence[Float[np.ndarray, "v d"]]], Any] = lambda _rows, _answers: None,
    ) -> list[Float[np.ndarray, "v d"]]:
        """Return the log-odds of each request, per value and direction.

        Args:
            requests: Texts with their prompts, values and directions.
            update: Called after each forward batch with the indices of its requests and their log-odds.

        Raises:
            InputError: The model carries hooks, or its tokenizer spells no answer.
        """
        yes, no = self._tokens
        out: list[np.ndarray] = [np.zeros((0, len(request[3]))) for request in requests]
        for start in range(0, len(requests), _CHUNK):
            trees = [self._tree(request) for request in requests[start : start + _CHUNK]]

            def received(rows: Sequence[int], logits: Sequence[np.ndarray], first: int = start) -> None:
                answers = [
                    _log_odds(x, len(yes), len(requests[first + row][3])) for row, x in zip(rows, logits, strict=True)
                ]
                for row, answer in zip(rows, answers, strict=True):
                    out[first + row] = answer
                update([first + row for row in rows], answers)

            branch_logits(self.model, trees, [*yes, *no], token_budget=self.token_budget, update=received)
        return out

    def prompts(self, request: Request) -> list[list[Example]]:
        """Return the prompts of a request: by value, one per direction.

        Args:
            request: A text with its prompt, values and directions.
        """
        text, prompt, values, directions = request
        text, prompt = (without_tokens(x, self._special) for x in (text, prompt))
        turns = (("system", SYSTEM),) if self._system_turn else ()
        before = "" if turns else f"{SYSTEM}\n\n"
        after = "" if models.info(self.model).chat else _PLAIN_END
        return [
            [
                Example(before + message(text, prompt, question(value, one)) + after, "", turns=turns)
                for one in directions
            ]
            for value in values
        ]

    def _tree(self, request: Request) -> list[list[tuple[int, ...]]]:
        text, prompt, values, directions = request
        room = min(LONGEST, models.info(self.model).n_ctx)
        # a token has at least one byte
        if len(text.encode()) + len(prompt.encode()) > room // 2:
            longest = max(values, key=lambda value: len(question(value, "express")))
            empty = inference.encode_one(self.model, self.prompts(("x", "x", [longest], directions))[0])
            room -= max(len(item.ids) for item in empty) + 16
            prompt = self._cut(prompt, room // 4)
            text = self._cut(text, room - room // 4)
        return [
            [item.ids for item in inference.encode_one(self.model, pair)]
            for pair in self.prompts((text, prompt, values, directions))
        ]

    def _cut(self, text: str, most: int) -> str:
        """Return the text up to a number of tokens."""
        encoded = models.tokenizer(self.model)(text, add_special_tokens=False, return_offsets_mapping=True)
        offsets = encoded["offset_mapping"]
        return text if len(offsets) <= most else text[: offsets[max(most, 1) - 1][1]]


def _place(name: str) -> str:
    source = sources.resolve(name)
    return str(source.path.resolve() if source.path is not None else source.hub)


def answer_tokens(tokenizer: Any, yes: Sequence[str], no: Sequence[str]) -> tuple[list[int], list[int]]:
    """Return the token ids of two answers: of the spellings that are one token, else the first tokens of all spellings.

    Args:
        tokenizer: The tokenizer.
        yes: Spellings of the one answer.
        no: Spellings of the other.

    Raises:
        InputError: The two answers begin with the same tokens.
    """
    ids = [[tokenizer(x, add_special_tokens=False)["input_ids"] for x in spellings] for spellings in (yes, no)]
    single = [sorted({x[0] for x in side if len(x) == 1}) for side in ids]
    if not all(single):
        single = [sorted({x[0] for x in side if x}) for side in ids]
    shared = set(single[0]) & set(single[1])
    first, second = ([token for token in side if token not in shared] for side in single)
    if not first or not second:
        raise InputError("the judge's tokenizer does not tell Yes from No by the first token: choose another model")
    return first, second


def _log_odds(logits: Float[np.ndarray, "q k"], n_yes: int, n_directions: int) -> Float[np.ndarray, "v d"]:
    from scipy.special import logsumexp

    odds = logsumexp(logits[:, :n_yes], axis=1) - logsumexp(logits[:, n_yes:], axis=1)
    return np.asarray(odds, dtype=np.float64).reshape(-1, n_directions)


def same_weights(a: models.Model, b: models.Model) -> bool:
    """Return whether two models have the same weights, whatever their dtypes.

    Compares sizes, then the output weights of the first and last MLP, rounded to the coarser of the two dtypes.

    Args:
        a: A TransformerLens model.
        b: Another.
    """
    if a is b:
        return True
    sizes = [(x.n_layers, x.d_model, x.d_mlp, x.d_vocab, x.n_heads) for x in (models.info(a), models.info(b))]
    if sizes[0] != sizes[1]:
        return False
    for layer in {0, sizes[0][0] - 1}:
        x, y = (models.w_out(model, layer).detach().cpu() for model in (a, b))
        kind = x.dtype if torch.finfo(x.dtype).eps >= torch.finfo(y.dtype).eps else y.dtype
        if x.shape != y.shape or not torch.equal(x.to(kind), y.to(kind)):
            return False
    return True
