"""Judge a model under edits, item by item: its generated texts or its answers to questions.

Decoding is the same in every condition, with common random numbers: token t of prompt i is drawn with the same uniform number
edited and unedited, so that differences come from the edit, not from sampling noise.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, cast

import numpy as np
import pandas as pd

from neva_tl.core.arguments import check_arguments
from neva_tl.core.brief import brief
from neva_tl.core.cache import JsonCache
from neva_tl.core.cards import card
from neva_tl.core.errors import InputError
from neva_tl.editing import Edit, as_edits, edit, edit_rows, rewrite
from neva_tl.editing.edits.rewriting import RewriteAnswer, split_rewriting
from neva_tl.evaluation.conditions.decoding import Decoding
from neva_tl.evaluation.conditions.meaning import meaning_kept
from neva_tl.evaluation.conditions.text_cache import cacheable, recall, text_keys
from neva_tl.evaluation.judges.base import (
    ItemScores,
    Judge,
    ModelJudge,
    TextJudge,
    check_scores,
    judge_theory,
    judge_values,
    reads_texts,
)
from neva_tl.evaluation.judges.registry import as_judge, as_text_judge
from neva_tl.models import LayerCache, Model
from neva_tl.models.inference.prompt_cache import Prefill

Edits = Edit | Sequence[Edit] | None


def prompt_table(prompts: pd.DataFrame | Sequence[str]) -> pd.DataFrame:
    """Return prompts as a table of `text, topic`; in a list, every prompt is its own topic.

    Args:
        prompts: Table with `text` and optionally `topic`, or a list of texts.

    Raises:
        InputError: No prompts, or the column `text` is missing.
    """
    if isinstance(prompts, pd.DataFrame):
        if "text" not in prompts.columns:
            raise InputError("open prompts need a column `text` (and `topic`, the unit of the intervals)")
        table = prompts[["text"]].copy()
        table["topic"] = prompts["topic"] if "topic" in prompts.columns else prompts["text"]
    else:
        table = pd.DataFrame({"text": list(prompts), "topic": list(prompts)})
    if not len(table):
        raise InputError("there are no open prompts: the leakage of texts needs some")
    return table.reset_index(drop=True).astype(str)


@check_arguments
def score_texts(judge: TextJudge | str, texts: Sequence[str], prompts: Sequence[str] | None = None) -> pd.DataFrame:
    """Score texts with a judge.

    Args:
        judge: The judge.
        texts: The texts.
        prompts: Prompt of each text.

    Returns:
        Columns `text, valid`, `score_VALUE` for the values of the judge, and `oppose_VALUE` if it scores opposition. Invalid
        texts score 0.

    Raises:
        InputError: The judge returned scores of the wrong shape or range.

    Example:
        >>> scores = nv.evaluation.score_texts("wordlist", ["He helps and supports his neighbour."])
        >>> scores.shape[0]
        1
    """
    judge, texts = as_text_judge(judge), list(texts)
    values = judge_values(judge)
    score = np.asarray(judge.score(texts, prompts), dtype=float)
    check_scores(score, len(texts), len(values))
    valid = np.asarray(judge.valid(texts, prompts), dtype=bool)
    columns: dict[str, Any] = {"text": texts, "valid": valid}
    columns |= {f"score_{name}": np.where(valid, score[:, j], 0.0) for j, name in enumerate(values)}
    oppose = judge.oppose(texts, prompts)
    if oppose is not None:
        check_scores(np.asarray(oppose), len(texts), len(values))
        columns |= {f"oppose_{name}": np.where(valid, oppose[:, j], 0.0) for j, name in enumerate(values)}
    return pd.DataFrame(columns)


def write_texts(
    model: Model,
    edits: Edits,
    prompts: Sequence[str],
    decoding: Decoding,
    *,
    prefill: Prefill | None = None,
    cache: JsonCache | None = None,
    progress: bool = False,
) -> list[str]:
    """Generate a continuation of each prompt under edits; role prompts precede each prompt, and answers may be rewritten.

    Args:
        model: A TransformerLens model.
        edits: An edit, or several; None for the unedited model.
        prompts: The prompts; a prompt's index selects its random numbers.
        decoding: Settings of text generation.
        prefill: Cache of the unedited prompts between calls.
        cache: Cache of texts by weights, edits, prompt and decoding. It does not change the texts. Texts under edits that
            mix the rows of a batch are not cached.
        progress: Show a bar on stderr.

    Raises:
        InputError: With a cache: an edit has no content hash, or the model has other hooks.
    """
    from neva_tl.models import inference

    edit_list, rewriters = split_rewriting(as_edits(edits))
    if rewriters:
        options: Mapping[str, Any] = {"prefill": prefill, "cache": cache, "progress": progress}
        return _write_twice(model, edit_list, rewriters, prompts, decoding, options)[1]

    def write(indices: list[int]) -> list[str]:
        with edit(model, *edit_list) as session:
            return inference.generate(
                model,
                [rewrite(edit_list, prompts[i]) for i in indices],
                numbers=indices,
                session=session,
                prefill=prefill,
                progress=progress,
                **decoding.options(),
            )

    indices = list(range(len(prompts)))
    if cache is None or not cacheable(edit_list):
        return write(indices)
    keys = text_keys(model, edit_list, prompts, indices, decoding)
    return recall(cache, keys, [len(prompt) for prompt in prompts], write)


def _write_twice(
    model: Model,
    edits: Sequence[Edit],
    rewriters: Sequence[RewriteAnswer],
    prompts: Sequence[str],
    decoding: Decoding,
    options: Mapping[str, Any],
) -> tuple[list[str], list[str]]:
    """Return the model's first answers and the rewritten ones, under the same other edits and random numbers.

    With a cache, the first answers are those of the condition without rewriting.
    """
    first = texts = write_texts(model, edits, prompts, decoding, **options)
    for item in rewriters:
        requests = [item.second_prompt(prompt, text) for prompt, text in zip(prompts, texts, strict=True)]
        texts = write_texts(model, edits, requests, decoding, **options)
    return first, texts


@check_arguments
def text_responses(
    model: Model,
    edits: Edits,
    prompts: pd.DataFrame | Sequence[str],
    judge: TextJudge | str,
    *,
    decoding: Decoding | None = None,
    cache: JsonCache | None = None,
    progress: bool = False,
) -> pd.DataFrame:
    """Generate texts on open prompts under edits, and score them with a judge.

    The judge reads the prompt itself, without a role prompt before it.

    Args:
        model: A TransformerLens model.
        edits: An edit, or several; None for the unedited model.
        prompts: Open prompts.
        judge: The judge, or its name (`load_judge`).
        decoding: Settings of text generation.
        cache: Cache of generated texts (see `write_texts`).
        progress: Show a bar on stderr.

    Returns:
        One row per prompt and sample: `prompt, topic, sample, text, valid, score_VALUE...` (`oppose_VALUE...`). Rewritten texts
        (`RewriteAnswer`) have also `first_text`, `meaning` (similarity to it) and `meaning_by` (see `meaning_kept`).

    Example:
        >>> texts = nv.evaluation.text_responses(model, edit, prompts, judge)
        >>> len(texts) == len(prompts)
        True
    """
    judge, decoding = as_text_judge(judge), decoding or Decoding()
    inputs = _inputs(prompts, decoding)
    others, rewriters = split_rewriting(as_edits(edits))
    if rewriters:
        first, texts = _write_twice(model, others, rewriters, inputs, decoding, {"cache": cache, "progress": progress})
        cosine, measure = meaning_kept(first, texts)
        about: dict[str, Any] = {"first_text": first, "meaning": cosine, "meaning_by": measure}
        return _responses(judge, prompts, texts, decoding).assign(**about)
    return _responses(
        judge, prompts, write_texts(model, edits, inputs, decoding, cache=cache, progress=progress), decoding
    )


def _inputs(prompts: pd.DataFrame | Sequence[str], decoding: Decoding) -> list[str]:
    return [text for text in prompt_table(prompts)["text"] for _ in range(decoding.samples)]


def _responses(
    judge: TextJudge, prompts: pd.DataFrame | Sequence[str], texts: Sequence[str], decoding: Decoding
) -> pd.DataFrame:
    """Return the judge's scores of the texts of one condition."""
    table, inputs = prompt_table(prompts), _inputs(prompts, decoding)
    read = score_texts(judge, texts, inputs)
    head = pd.DataFrame(
        {
            "prompt": inputs,
            "topic": np.repeat(table["topic"].to_numpy(dtype=object), decoding.samples),
            "sample": np.tile(np.arange(decoding.samples), len(table)),
        }
    )
    return pd.concat([head, read], axis=1)


@dataclass(frozen=True, eq=False)
class Observed:
    """A judge's scores of one condition.

    Attributes:
        items: Item scores of each measured value.
        net: Item scores expresses - opposes, if a text judge scores opposition.
        generations: Generated texts with their scores; None for a ModelJudge.

    Example:
        >>> observed = nv.evaluation.observe(model, None, prompts, judge)
        >>> observed.invalid, len(observed.generations)
        (0.0, 6)
    """

    items: ItemScores
    net: ItemScores | None = None
    generations: pd.DataFrame | None = None

    __repr__ = brief

    @property
    def invalid(self) -> float:
        """Share of invalid texts; 0 for a ModelJudge."""
        return 0.0 if self.generations is None else float(1.0 - self.generations["valid"].mean())

    def csr(self, name: str) -> float:
        """Return the mean score of a value over its items, without missing scores.

        Args:
            name: Name of the value.
        """
        return float(np.nanmean(self.items.scores[self.items.values.index(name)]))

    def _repr_html_(self) -> str:
        texts = None if self.generations is None else len(self.generations)
        html = card("Scores of one condition", {"texts": texts, "invalid": self.invalid}, self.items.table())
        return html if self.generations is None else html + card("First texts", table=self.generations, rows=3)

    def show(self) -> Any:
        """Draw the mean score per measured value with intervals (matplotlib)."""
        return self.items.show()


@check_arguments
def observe(
    model: Model,
    edits: Edits,
    prompts: pd.DataFrame | Sequence[str] | None,
    judge: Judge | str,
    *,
    decoding: Decoding | None = None,
    cache: JsonCache | None = None,
    reuse: LayerCache | None = None,
    progress: bool = False,
) -> Observed:
    """Score one condition with a TextJudge or a ModelJudge.

    Args:
        model: A TransformerLens model.
        edits: An edit, or several; None for the unedited model.
        prompts: Open prompts for a TextJudge; a ModelJudge has its own items.
        judge: The judge, or its name (`load_judge`).
        decoding: Settings of text generation.
        cache: Cache of generated texts (see `write_texts`); `CachedJudge` caches the scores.
        reuse: Cache of layer inputs (`editing.edit`), for many conditions with a ModelJudge.
        progress: Show a bar on stderr.

    Raises:
        InputError: A text judge without prompts.

    Example:
        >>> before, after = (nv.evaluation.observe(model, edits, prompts, judge) for edits in (None, edit))
        >>> after.csr("benevolence") > before.csr("benevolence")
        True
    """
    judge = as_judge(judge)
    if not reads_texts(judge):
        return Observed(_ask(model, edits, cast(ModelJudge, judge), reuse))
    if prompts is None:
        raise InputError(f"the judge {judge.name!r} reads texts: give open prompts for the model to continue")
    scored = text_responses(model, edits, prompts, judge, decoding=decoding, cache=cache, progress=progress)
    return _observed(scored, judge)


def observe_many(
    model: Model,
    conditions: Sequence[Sequence[Edit]],
    prompts: pd.DataFrame | Sequence[str] | None,
    judge: Judge | Sequence[Judge],
    *,
    decoding: Decoding | None = None,
    cache: JsonCache | None = None,
) -> list[Observed]:
    """Score several conditions; texts for a TextJudge are generated in common batches.

    Args:
        model: A TransformerLens model.
        conditions: The edits of each condition.
        prompts: Open prompts for a TextJudge; a ModelJudge has its own items.
        judge: The judge, or one of the same kind for each condition.
        decoding: Settings of text generation, including the batch size.
        cache: Cache of generated texts (see `write_texts`).

    Returns:
        The result of `observe` for each condition.
    """
    judges = list(judge) if isinstance(judge, Sequence) else [judge] * len(conditions)
    # rewriting generates twice, each condition by itself
    alone = any(split_rewriting(edits)[1] for edits in conditions)
    if prompts is None or len(conditions) < 2 or alone or not reads_texts(judges[0]):
        return [
            observe(model, edits, prompts, one, decoding=decoding, cache=cache)
            for edits, one in zip(conditions, judges, strict=True)
        ]
    decoding = decoding or Decoding()
    texts = write_texts_many(model, conditions, _inputs(prompts, decoding), decoding, cache=cache)
    return [
        _observed(_responses(cast(TextJudge, one), prompts, batch, decoding), cast(TextJudge, one))
        for batch, one in zip(texts, judges, strict=True)
    ]


def write_texts_many(
    model: Model,
    conditions: Sequence[Sequence[Edit]],
    prompts: Sequence[str],
    decoding: Decoding,
    *,
    cache: JsonCache | None = None,
) -> list[list[str]]:
    """Generate texts under several conditions on the same prompts, in common batches.

    Args:
        model: A TransformerLens model.
        conditions: The edits of each condition.
        prompts: The prompts; a prompt's index selects its random numbers.
        decoding: Settings of text generation.
        cache: Cache of texts (see `write_texts`).

    Returns:
        One list of texts per condition.
    """
    from neva_tl.models import inference

    condition, number = (x.ravel() for x in np.indices((len(conditions), len(prompts))))

    def write(indices: list[int]) -> list[str]:
        with edit_rows(model, conditions, condition[indices]) as session:
            return inference.generate(
                model,
                [rewrite(conditions[condition[i]], prompts[number[i]]) for i in indices],
                numbers=number[indices].tolist(),
                session=session,
                **decoding.options(),
            )

    if cache is None or not all(cacheable(edits) for edits in conditions):
        texts = write(list(range(len(condition))))
    else:
        keys = [key for edits in conditions for key in text_keys(model, edits, prompts, range(len(prompts)), decoding)]
        texts = recall(cache, keys, [len(prompt) for prompt in prompts] * len(conditions), write)
    return [texts[i : i + len(prompts)] for i in range(0, len(texts), len(prompts))]


def _observed(texts: pd.DataFrame, judge: TextJudge) -> Observed:
    """Return the item scores in a table of texts that a judge scored."""
    values, theory = judge_values(judge), judge_theory(judge)
    clusters = texts["topic"].to_numpy(dtype=str)

    def items(columns: Iterable[np.ndarray], bounds: tuple[float, float]) -> ItemScores:
        topics = tuple(clusters for _ in values)
        return ItemScores(values, tuple(columns), topics, shared=True, bounds=bounds, theory=theory)

    score = [texts[f"score_{name}"].to_numpy(dtype=float) for name in values]
    net = None
    if f"oppose_{values[0]}" in texts.columns:
        oppose = [texts[f"oppose_{name}"].to_numpy(dtype=float) for name in values]
        net = items((s - o for s, o in zip(score, oppose, strict=True)), (-1.0, 1.0))
    return Observed(items(score, (0.0, 1.0)), net, texts)


def _ask(model: Model, edits: Edits, judge: ModelJudge, reuse: LayerCache | None) -> ItemScores:
    with edit(model, *as_edits(edits), reuse=reuse) as session:
        return judge.measure(model, session=session, rewrite=lambda prompt: rewrite(edits, prompt))
