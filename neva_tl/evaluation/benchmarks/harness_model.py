"""EditedLM: the transformers model class of lm-evaluation-harness, with edits in force during each request.

This module imports the harness (extra `lm-eval`); `harness.lm_eval_model` is the public entrance.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import torch
from lm_eval.models.huggingface import HFLM
from torch import Tensor

from neva_tl import models
from neva_tl.core.errors import InputError
from neva_tl.core.messages import progress_bar
from neva_tl.editing import Edit, EditSession, content_hash, edit, edit_hf
from neva_tl.evaluation.benchmarks.score import Span

#: A request of log-probabilities: key of the harness's cache, token ids of the context, token ids of the continuation.
Request = tuple[Any, list[int], list[int]]


class EditedLM(HFLM):  # type: ignore[misc]
    """A transformers model that answers the harness's requests under edits."""

    def __init__(
        self, hf_model: Any, editable: Any, edits: Sequence[Edit], *, span: Span, tokenizer: Any, **options: Any
    ) -> None:
        """Wrap a model.

        Args:
            hf_model: The transformers model that runs.
            editable: The model that the edits are put on: `hf_model`, or the TransformerLens model around it.
            edits: The edits.
            span: See `harness.lm_eval_model`.
            tokenizer: The tokenizer; it may be given a padding token.
            **options: Further arguments of `HFLM`.
        """
        super().__init__(pretrained=hf_model, backend="causal", tokenizer=tokenizer, **options)
        self.edits = tuple(edits)
        self._editable, self._span = editable, span
        self._session: EditSession | None = None

    # ---------------------------------------------------------------- the harness's requests

    def loglikelihood(self, requests: Any, disable_tqdm: bool = False) -> Any:
        """Return summed log-probability and greediness of each continuation."""
        with self._in_force(requests):
            return super().loglikelihood(requests, disable_tqdm=disable_tqdm)

    def loglikelihood_rolling(self, requests: Any, disable_tqdm: bool = False) -> Any:
        """Return the summed log-probability of each text."""
        with self._in_force(requests):
            return super().loglikelihood_rolling(requests, disable_tqdm=disable_tqdm)

    def generate_until(self, requests: Any, disable_tqdm: bool = False) -> Any:
        """Return a generated text for each prompt."""
        with self._in_force(requests):
            return super().generate_until(requests, disable_tqdm=disable_tqdm)

    def get_model_info(self) -> dict[str, Any]:
        """Return the facts that the harness stores with its results; with the edits."""
        edits = [{"edit": repr(item), "content_hash": _hash(item)} for item in self.edits]
        return super().get_model_info() | {"neva_tl_edits": edits}

    @contextmanager
    def _in_force(self, requests: Any) -> Iterator[None]:
        """Put the edits on the model inside the block."""
        if not self.edits or not requests:
            yield
            return
        block = edit if models.is_model(self._editable) else edit_hf
        with block(self._editable, *self.edits) as self._session:
            try:
                yield
            finally:
                self._session = None

    # ---------------------------------------------------------------- log-probabilities

    def _loglikelihood_tokens(
        self, requests: Sequence[Request], disable_tqdm: bool = False, override_bs: int | None = None
    ) -> list[tuple[float, bool]]:
        """Score continuations; HFLM's own loop passes neither padding mask nor token roles, which edits read.

        As there, a text that is too long loses tokens at the left, and continuations that need the same pass share it.
        """
        answers: list[tuple[float, bool]] = [(0.0, False)] * len(requests)
        # input ids and start of the continuation -> the requests that this pass answers
        passes: dict[tuple[tuple[int, ...], int], list[int]] = {}
        for number, (_, context, continuation) in enumerate(requests):
            ids = (context + continuation)[-(self.max_length + 1) :]
            passes.setdefault((tuple(ids[:-1]), len(ids) - len(continuation)), []).append(number)
        order = sorted(passes, key=lambda key: -len(key[0]))
        size = override_bs or self.batch_size
        with torch.inference_mode(), progress_bar(total=len(order), desc="lm_eval", progress=not disable_tqdm) as bar:
            for first in range(0, len(order), size):
                keys = order[first : first + size]
                for key, logprobs in zip(keys, self._logprobs(keys), strict=True):
                    for number in passes[key]:
                        cache_key, _, continuation = requests[number]
                        answers[number] = self._answer(logprobs, continuation)
                        if cache_key is not None:
                            self.cache_hook.add_partial("loglikelihood", cache_key, answers[number])
                bar.update(len(keys))
        return answers

    def _logprobs(self, keys: Sequence[tuple[tuple[int, ...], int]]) -> Iterator[Tensor]:
        """Log-probabilities `[n, d_vocab]` after each token of each input, without padding."""
        width = max(len(ids) for ids, _ in keys)
        tokens = torch.full((len(keys), width), int(self.tokenizer.pad_token_id), dtype=torch.long)
        mask = torch.zeros((len(keys), width), dtype=torch.bool)
        generated = torch.zeros_like(mask)
        for row, (ids, start) in enumerate(keys):
            tokens[row, : len(ids)] = torch.tensor(ids)
            mask[row, : len(ids)] = True
            if self._span == "text":
                start = int(ids[0] == self.prefix_token_id)
            generated[row, start : len(ids)] = True
        tokens, mask = tokens.to(self.device), mask.to(self.device)
        if self._session is not None:
            self._session.mark(generated.to(self.device), mask)
        logits = self.model(input_ids=tokens, attention_mask=mask.long()).logits
        for row, (ids, _) in enumerate(keys):
            yield logits[row, : len(ids)].float().log_softmax(dim=-1)

    @staticmethod
    def _answer(logprobs: Tensor, continuation: Sequence[int]) -> tuple[float, bool]:
        """Summed log-probability of the continuation, and whether greedy decoding gives it."""
        after = logprobs[len(logprobs) - len(continuation) :]
        targets = torch.tensor(continuation, device=after.device)
        total = after.gather(1, targets[:, None]).sum()
        return float(total), bool((after.argmax(dim=1) == targets).all())


def _hash(item: Edit) -> str:
    """The content hash of an edit; empty for an edit of the user that has none."""
    try:
        return content_hash(item)
    except InputError:
        return ""
