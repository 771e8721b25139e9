"""Keys and values of unedited prompts, so that scoring many edits runs answer tokens only.

Exact when no edit touches a prompt token: what an answer sees of its prompt is then the same for every edit and dose.
A contrast pair's two answers share their prompt too. On chat prompts this saves most of the tokens.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor
from tqdm import tqdm

from neva_tl import models
from neva_tl.models.inference.encoding import Encoded, encode_one, group, pad, pad_id
from neva_tl.prompts.example import Example

Ids = tuple[int, ...]
#: Logits `[rows, tokens, d_vocab]` are the largest tensor of a scoring pass: a quarter of the tokens of a plain batch.
SCORED_SHARE = 4


class PrefixCache:
    """Keys and values of the distinct prompts of some examples, on the model as it is when this is made.

    Make it outside any `edit` block, or name the block's session. What is stored is never changed: scoring works on gathered
    copies.

    Attributes:
        nbytes: memory held by keys and values.
        n_prefixes, n_skipped: distinct prompts stored, and left out because `max_bytes` was reached (those are scored
            the plain way).
    """

    def __init__(
        self,
        model: models.Model,
        examples: Sequence[Example] | Sequence[Encoded],
        *,
        chat: bool | None = None,
        session: Any = None,
        token_budget: int = 4096,
        max_bytes: int = 2 << 30,
        progress: bool = False,
    ) -> None:
        """Run every distinct prompt once.

        Args:
            examples: their prompts are stored, and the log-probability of each answer's first token. May be encoded already.
            chat: as in `answer_logprobs`; must be the same there.
            session: an edit session in force: prompts are run under it, and what is stored serves scoring under it alone.
            token_budget: tokens of a forward pass, padding included.
            max_bytes: stop storing beyond this.

        Raises:
            InputError: an example is longer than the context.
        """
        self._place: dict[Ids, tuple[int, int]] = {}
        self._blocks: list[models.KVCache] = []
        self._found: list[Any] = []  # what the session's edits worked out at a block's prompts
        self._first: dict[tuple[Ids, int], float] = {}
        self._model, self._session = model, session
        self.nbytes = 0
        wanted: dict[Ids, set[int]] = {}
        plain = [item for item in examples if isinstance(item, Example)]
        encoded = [item for item in examples if isinstance(item, Encoded)]
        for item in encoded or encode_one(model, plain, chat=chat):
            if 0 < item.start < len(item.ids):
                wanted.setdefault(item.ids[: item.start], set()).add(item.ids[item.start])
        prefixes = list(wanted)
        bar = tqdm(total=len(prefixes), desc="prompts", unit="prompt", file=sys.stderr, disable=not progress)
        with bar:
            for rows in group([len(ids) for ids in prefixes], token_budget):
                if self.nbytes >= max_bytes:
                    break
                self._store(model, [prefixes[i] for i in rows], wanted)
                bar.update(len(rows))
        self.n_prefixes = len(self._place)
        self.n_skipped = len(prefixes) - self.n_prefixes

    def _store(self, model: models.Model, prefixes: Sequence[Ids], wanted: dict[Ids, set[int]]) -> None:
        # left padding: every prompt ends where its answer will begin
        batch = pad(model, [Encoded(ids, len(ids)) for ids in prefixes], "left")
        past = models.KVCache()
        if self._session is not None:
            self._session.mark(batch.answer, batch.mask)
        end = torch.tensor([batch.tokens.shape[1] - 1], device=batch.tokens.device)
        logits = models.forward(model, batch.tokens, batch.mask, positions=end, past=past)
        assert logits is not None
        logprobs = torch.log_softmax(logits[:, -1].float(), dim=-1)
        for row, ids in enumerate(prefixes):
            self._place[ids] = (len(self._blocks), row)
            for token in wanted[ids]:
                self._first[ids, token] = float(logprobs[row, token])
        self._blocks.append(past)
        self._found.append(None if self._session is None else self._session.found())
        self.nbytes += past.nbytes

    def exact_for(self, model: models.Model, session: Any) -> bool:
        """Whether scoring through this cache is right: the same model, and no edit that touches prompt tokens.

        A cache made under a session is right for that session, whatever it touches.
        """
        if model is not self._model:
            return False
        if self._session is not None:
            return session is self._session
        if session is None:
            return True
        scopes = getattr(session, "active_scopes", None)
        return scopes is not None and set(scopes) <= {"generated"}

    def score(
        self,
        encoded: Sequence[Encoded],
        total: np.ndarray,
        *,
        session: Any = None,
        token_budget: int = 4096,
        update: Callable[[int], Any] = lambda n: None,
    ) -> np.ndarray:
        """Add the log-probabilities of the answers whose prompts are stored to `total`.

        Returns:
            Which examples were scored, `[n]` bool.
        """
        done = np.zeros(len(encoded), dtype=bool)
        by_block: dict[int, list[int]] = {}
        for number, item in enumerate(encoded):
            ids = item.ids[: item.start]
            if ids in self._place and (ids, item.ids[item.start]) in self._first:
                by_block.setdefault(self._place[ids][0], []).append(number)
                total[number] += self._first[ids, item.ids[item.start]]
                done[number] = True
        for block, numbers in by_block.items():
            # the last answer token predicts nothing that is scored: it need not be run
            lengths = [len(encoded[i].ids) - encoded[i].start - 1 for i in numbers]
            for rows in group(lengths, max(1, token_budget // SCORED_SHARE)):
                chosen = [numbers[i] for i in rows]
                if lengths[rows[-1]]:
                    self._run(block, [encoded[i] for i in chosen], np.asarray(chosen), total, session)
                update(len(chosen))
        return done

    def _run(self, block: int, items: Sequence[Encoded], numbers: np.ndarray, total: np.ndarray, session: Any) -> None:
        """Score the answers' tokens after the first: `items` are of one block, `numbers` their places in `total`."""
        answers = [item.ids[item.start :] for item in items]
        width = max(len(ids) for ids in answers) - 1
        filler = pad_id(self._model)
        tokens = np.full((len(items), width + 1), filler, dtype=np.int64)
        for row, ids in enumerate(answers):
            tokens[row, : len(ids)] = ids
        lengths = np.array([len(ids) - 1 for ids in answers])
        device = models.info(self._model).device
        whole = torch.from_numpy(tokens).to(device)
        mask = torch.from_numpy(np.arange(width)[None] < lengths[:, None]).to(device)
        index = [self._place[item.ids[: item.start]][1] for item in items]
        rows = torch.tensor(index, device=device)
        past = self._blocks[block].rows(rows)
        if session is not None:
            session.mark(mask, mask)
            if self._session is not None:
                session.go_on(self._found[block], rows)
        logits = models.forward(self._model, whole[:, :-1], mask, scored=mask, past=past, last=True)
        assert logits is not None
        logprobs = torch.log_softmax(logits.float(), dim=-1).gather(1, whole[:, 1:][mask][:, None]).squeeze(1)
        place = mask.nonzero()[:, 0].cpu().numpy()
        np.add.at(total, numbers[place], logprobs.double().cpu().numpy())


class Prefill:
    """Keys, values and next-token logits of prompts run before, so that edits of generated tokens alone run these only.

    Exact when no edit touches a prompt token; keyed by the batch's tokens. One instance serves one model.
    """

    def __init__(self) -> None:
        self._known: dict[bytes, tuple[models.KVCache, Tensor]] = {}

    @staticmethod
    def fits(session: Any) -> bool:
        """Whether a session leaves every prompt token alone."""
        return session is None or set(getattr(session, "active_scopes", {"all"})) <= {"generated"}

    def run(
        self, model: models.Model, tokens: Int[Tensor, "b n"], mask: Bool[Tensor, "b n"]
    ) -> tuple[models.KVCache, Float[Tensor, "b 1 v"]]:
        """The unedited prompts' cache (the caller's own to extend) and the logits after them."""
        key = tokens.cpu().numpy().tobytes() + mask.cpu().numpy().tobytes()
        if key not in self._known:
            past = models.KVCache()
            end = torch.tensor([tokens.shape[1] - 1], device=tokens.device)
            logits = models.forward(model, tokens, mask, positions=end, past=past)
            assert logits is not None
            self._known[key] = (past, logits)
        past, logits = self._known[key]
        return past.rows(torch.arange(len(tokens), device=tokens.device)), logits
