"""Keys and values of distinct prompts, run once, so that scoring and decoding run later tokens only.

Exact when no edit touches a prompt token: keys and values of the prompt are then the same for every edit and dose. The two
answers of a contrast pair share their prompt too. On chat prompts this saves most of the tokens.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, Literal, overload

import numpy as np
import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from neva_tl import models
from neva_tl.core.messages import progress_bar
from neva_tl.models.inference.encoding import Batch, Encoded, encode_one, group, pad, pad_id
from neva_tl.models.inference.session import PromptState, TokenSession, in_force, same, skips_prompts
from neva_tl.prompts.example import Example

Ids = tuple[int, ...]
#: Logits `[rows, tokens, d_vocab]` are the largest tensor of a scoring pass: a quarter of the tokens of a plain batch.
SCORED_SHARE = 4


def prompt_batch(model: models.Model, prompts: Sequence[Ids]) -> Batch:
    """Left-padded batch of prompts: every prompt ends at the last position, where its answer begins.

    Args:
        model: A TransformerLens model.
        prompts: Token ids of each prompt.
    """
    return pad(model, [Encoded(ids, len(ids)) for ids in prompts], "left")


@overload
def run_prompts(
    model: models.Model,
    tokens: Int[Tensor, "b n"],
    mask: Bool[Tensor, "b n"],
    past: models.KVCache | None = None,
    *,
    logits: Literal[True] = True,
    session: TokenSession | None = None,
) -> tuple[models.KVCache, Float[Tensor, "b 1 v"]]: ...


@overload
def run_prompts(
    model: models.Model,
    tokens: Int[Tensor, "b n"],
    mask: Bool[Tensor, "b n"],
    past: models.KVCache | None = None,
    *,
    logits: Literal[False],
    session: TokenSession | None = None,
) -> tuple[models.KVCache, None]: ...


def run_prompts(
    model: models.Model,
    tokens: Int[Tensor, "b n"],
    mask: Bool[Tensor, "b n"],
    past: models.KVCache | None = None,
    *,
    logits: bool = True,
    session: TokenSession | None = None,
) -> tuple[models.KVCache, Float[Tensor, "b 1 v"] | None]:
    """Run a left-padded batch of prompts.

    Args:
        model: A TransformerLens model.
        tokens: Token ids (see `prompt_batch`).
        mask: True for real tokens, False for padding.
        past: Cache to read and extend; None starts an empty one.
        logits: False skips the LM head.
        session: Edit session; by default the sessions in force on the model.

    Returns:
        The cache with keys and values of the prompts, and the logits at their last position (None without `logits`).
    """
    past = models.KVCache() if past is None else past
    end = torch.tensor([tokens.shape[1] - 1], device=tokens.device) if logits else None
    session = in_force(model, session)
    if session is not None:
        session.mark(torch.zeros_like(mask), mask)
    return past, models.forward(model, tokens, mask, logits=logits, positions=end, past=past)


def run_distinct(
    model: models.Model, tokens: Int[Tensor, "b n"], mask: Bool[Tensor, "b n"]
) -> tuple[models.KVCache, Float[Tensor, "b 1 v"]]:
    """Run the distinct prompts of a left-padded batch once, where the model is unedited.

    Several answers to one question begin with the same prompt.

    Args:
        model: A TransformerLens model without hooks.
        tokens: Token ids.
        mask: True for real tokens, False for padding.

    Returns:
        The cache and the logits at the last position, of all rows.
    """
    rows, index = torch.unique(torch.cat([tokens, mask.long()], dim=1), dim=0, return_inverse=True)
    if len(rows) == len(tokens):
        return run_prompts(model, tokens, mask)
    past, logits = run_prompts(model, rows[:, : tokens.shape[1]], rows[:, tokens.shape[1] :].bool())
    return past.rows(index), logits[index]


class PrefixCache:
    """Keys and values of the distinct prompts of some examples, under the model's present weights.

    Created inside an `edit` block, it serves that block alone. The stored tensors never change: scoring uses gathered
    copies.

    Attributes:
        nbytes: Memory of the keys and values.
        n_prefixes: Number of distinct prompts stored.
        n_skipped: Number of prompts left out because `max_bytes` was reached (they are scored without the cache).

    Example:
        >>> examples = [nv.Example("mara says", "that"), nv.Example("mara says", "no")]
        >>> cache = nv.inference.PrefixCache(model, examples)  # runs the shared prompt once
        >>> scores, n = nv.answer_logprobs(model, examples, prefix=cache)
        >>> n.tolist()
        [1, 1]
    """

    def __init__(
        self,
        model: models.Model,
        examples: Sequence[Example] | Sequence[Encoded],
        *,
        chat: bool | None = None,
        session: TokenSession | None = None,
        token_budget: int = 4096,
        max_bytes: int = 2 << 30,
        progress: bool = False,
    ) -> None:
        """Run every distinct prompt once.

        Args:
            model: A TransformerLens model.
            examples: Examples, encoded or not: their prompts are stored, and the log-probability of each answer's first token.
            chat: Chat template, as in `answer_logprobs`; must be the same there.
            session: Edit session; by default the sessions in force on the model: prompts are run under them, and the cache
                serves scoring under them alone.
            token_budget: Tokens of a forward pass, padding included.
            max_bytes: Memory limit: no further prompt is stored beyond it.
            progress: Show a progress bar on stderr.

        Raises:
            InputError: An example is longer than the context.
        """
        self._index: dict[Ids, tuple[int, int]] = {}  # prompt -> its block, and its row there
        self._blocks: list[models.KVCache] = []
        self._states: list[PromptState] = []  # by block, under a session: tensors of its edits at the prompts
        self._first: dict[tuple[Ids, int], float] = {}
        self._model, self._session = model, in_force(model, session)
        self.nbytes = 0
        first_tokens: dict[Ids, set[int]] = {}
        plain = [item for item in examples if isinstance(item, Example)]
        encoded = [item for item in examples if isinstance(item, Encoded)]
        for item in encoded or encode_one(model, plain, chat=chat):
            if 0 < item.start < len(item.ids):
                first_tokens.setdefault(item.ids[: item.start], set()).add(item.ids[item.start])
        prefixes = list(first_tokens)
        bar = progress_bar(total=len(prefixes), desc="prompts", unit="prompt", progress=progress, leaf=True)
        with bar:
            for rows in group([len(ids) for ids in prefixes], token_budget):
                if self.nbytes >= max_bytes:
                    break
                self._store([prefixes[i] for i in rows], first_tokens)
                bar.update(len(rows))
        self.n_prefixes = len(self._index)
        self.n_skipped = len(prefixes) - self.n_prefixes

    def _store(self, prefixes: Sequence[Ids], first_tokens: dict[Ids, set[int]]) -> None:
        batch = prompt_batch(self._model, prefixes)
        past, logits = run_prompts(self._model, batch.tokens, batch.mask, session=self._session)
        logprobs = torch.log_softmax(logits[:, -1].float(), dim=-1)
        for row, ids in enumerate(prefixes):
            self._index[ids] = (len(self._blocks), row)
            for token in first_tokens[ids]:
                self._first[ids, token] = float(logprobs[row, token])
        self._blocks.append(past)
        if self._session is not None:
            self._states.append(self._session.prompt_state())
        self.nbytes += past.nbytes

    def exact_for(self, model: models.Model, session: TokenSession | None) -> bool:
        """Whether scoring through this cache is exact: the same model, and no edit that touches prompt tokens.

        A cache created under an edit is exact for the sessions that were in force then, in any scope.

        Args:
            model: The model to score with.
            session: The session to score under; by default the sessions in force on the model.
        """
        if model is not self._model:
            return False
        session = in_force(model, session)
        return skips_prompts(session) if self._session is None else same(session, self._session)

    def score(
        self,
        encoded: Sequence[Encoded],
        total: np.ndarray,
        *,
        session: TokenSession | None = None,
        token_budget: int = 4096,
        update: Callable[[int], Any] = lambda _: None,
    ) -> np.ndarray:
        """Add the log-probabilities of the answers whose prompts are stored to `total`.

        Args:
            encoded: The examples.
            total: Sums of the examples' log-probabilities, `[n]`, changed in place.
            session: Edit session; by default the sessions in force on the model.
            token_budget: Tokens of a forward pass, padding included.
            update: Called with the number of examples after each batch.

        Returns:
            Mask of the examples that were scored, `[n]` bool.
        """
        session = in_force(self._model, session)
        scored = np.zeros(len(encoded), dtype=bool)
        by_block: dict[int, list[int]] = {}
        for number, item in enumerate(encoded):
            ids = item.ids[: item.start]
            if ids in self._index and (ids, item.ids[item.start]) in self._first:
                by_block.setdefault(self._index[ids][0], []).append(number)
                total[number] += self._first[ids, item.ids[item.start]]
                scored[number] = True
        for block, numbers in by_block.items():
            # the last answer token predicts no scored token: it need not be run
            lengths = [len(encoded[i].ids) - encoded[i].start - 1 for i in numbers]
            for rows in group(lengths, max(1, token_budget // SCORED_SHARE)):
                indices = [numbers[i] for i in rows]
                if lengths[rows[-1]]:
                    self._run(block, [encoded[i] for i in indices], np.asarray(indices), total, session)
                update(len(indices))
        return scored

    def _run(
        self, block: int, items: Sequence[Encoded], indices: np.ndarray, total: np.ndarray, session: TokenSession | None
    ) -> None:
        """Score the answers' tokens after the first: `items` are of one block, `indices` their positions in `total`."""
        answers = [item.ids[item.start :] for item in items]
        width = max(len(ids) for ids in answers) - 1
        padded = np.full((len(items), width + 1), pad_id(self._model), dtype=np.int64)
        for row, ids in enumerate(answers):
            padded[row, : len(ids)] = ids
        lengths = np.array([len(ids) - 1 for ids in answers])
        device = models.info(self._model).device
        tokens = torch.from_numpy(padded).to(device)
        mask = torch.from_numpy(np.arange(width)[None] < lengths[:, None]).to(device)
        rows = torch.tensor([self._index[item.ids[: item.start]][1] for item in items], device=device)
        past = self._blocks[block].rows(rows)
        if session is not None:
            session.mark(mask, mask)
            if self._session is not None:
                session.resume_from(self._states[block], rows)
        logits = models.forward(self._model, tokens[:, :-1], mask, scored=mask, past=past, last=True)
        assert logits is not None
        logprobs = torch.log_softmax(logits.float(), dim=-1).gather(1, tokens[:, 1:][mask][:, None]).squeeze(1)
        row_of = mask.nonzero()[:, 0].cpu().numpy()
        np.add.at(total, indices[row_of], logprobs.double().cpu().numpy())


class Prefill:
    """Keys, values and next-token logits of unedited prompts, so that edits of generated tokens alone skip the prompts.

    Exact when no edit touches a prompt token; keyed by the batch's tokens and mask. One instance serves one model.

    Example:
        >>> nv.inference.Prefill.fits(None)  # without an edit the prompts are unedited
        True
    """

    def __init__(self) -> None:
        """Create an empty cache."""
        self._cache: dict[bytes, tuple[models.KVCache, Tensor]] = {}

    @staticmethod
    def fits(session: TokenSession | None) -> bool:
        """Whether a session leaves every prompt token unchanged."""
        return skips_prompts(session)

    def run(
        self, model: models.Model, tokens: Int[Tensor, "b n"], mask: Bool[Tensor, "b n"]
    ) -> tuple[models.KVCache, Float[Tensor, "b 1 v"]]:
        """Run unedited prompts, or look them up.

        Args:
            model: A TransformerLens model, the same in every call.
            tokens: Token ids of the left-padded prompts.
            mask: True for real tokens, False for padding.

        Returns:
            A cache of the prompts for the caller to extend, and the logits after them.
        """
        key = tokens.cpu().numpy().tobytes() + mask.cpu().numpy().tobytes()
        if key not in self._cache:
            self._cache[key] = run_prompts(model, tokens, mask)
        past, logits = self._cache[key]
        return past.rows(torch.arange(len(tokens), device=tokens.device)), logits
