"""Put a model, edited or not, before a judge: what it writes or what it is asked, item by item.

Decoding is the same in every condition, with common random numbers: token t of prompt i is drawn with the same uniform whether
edited or not, so that differences are the edit's and not the dice's.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any, cast

import numpy as np
import pandas as pd

from neva_tl.core.cache import JsonCache
from neva_tl.core.cards import card
from neva_tl.core.errors import InputError
from neva_tl.core.values import VALUES
from neva_tl.editing import Edit, as_edits, edit, edit_rows, rewrite
from neva_tl.evaluation.conditions.decoding import Decoding
from neva_tl.evaluation.conditions.text_cache import cacheable, recall, text_keys
from neva_tl.evaluation.judges.base import ItemScores, Judge, ModelJudge, TextJudge, check_scores, reads_texts
from neva_tl.models import LayerCache, Model
from neva_tl.models.inference.prompt_cache import Prefill

Edits = Edit | Sequence[Edit] | None


def prompt_table(prompts: pd.DataFrame | Sequence[str]) -> pd.DataFrame:
    """Prompts as a table of `text, topic`; a bare list makes every prompt its own topic.

    Raises:
        InputError: no prompts, or the column `text` is missing.
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


def score_texts(judge: TextJudge, texts: Sequence[str], prompts: Sequence[str] | None = None) -> pd.DataFrame:
    """A judge's reading of texts: `text, valid, score_VALUE` for the ten values, `oppose_VALUE` where it knows
    opposition.

    Invalid texts score 0 whatever the judge says of them.
    """
    texts = list(texts)
    score = np.asarray(judge.score(texts, prompts), dtype=float)
    check_scores(score, len(texts))
    valid = np.asarray(judge.valid(texts, prompts), dtype=bool)
    columns: dict[str, Any] = {"text": texts, "valid": valid}
    columns |= {f"score_{name}": np.where(valid, score[:, j], 0.0) for j, name in enumerate(VALUES)}
    oppose = judge.oppose(texts, prompts)
    if oppose is not None:
        check_scores(np.asarray(oppose), len(texts))
        columns |= {f"oppose_{name}": np.where(valid, oppose[:, j], 0.0) for j, name in enumerate(VALUES)}
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
    """Continuations of prompts under edits; role prompts are put before each prompt first.

    Args:
        model: a TransformerLens model.
        edits: in force; None = unedited.
        prompts: to continue; a prompt's place is its number among the random numbers.
        decoding: how.
        prefill: keeps the unedited prompts between calls.
        cache: texts written before, under the same weights, edits and decoding, are taken from here, new ones are kept. The
            texts are the same with and without (texts under edits that mix a batch's rows are never kept).
        progress: show a bar on stderr.

    Raises:
        InputError: with a cache: an edit cannot be told by its content, or the model carries other hooks.
    """
    from neva_tl.models import inference

    held = as_edits(edits)

    def write(places: list[int]) -> list[str]:
        with edit(model, *held) as session:
            return inference.generate(
                model,
                [rewrite(held, prompts[place]) for place in places],
                numbers=places,
                session=session,
                prefill=prefill,
                progress=progress,
                **decoding.options(),
            )

    places = list(range(len(prompts)))
    if cache is None or not cacheable(held):
        return write(places)
    keys = text_keys(model, held, prompts, places, decoding)
    return recall(cache, keys, [len(prompt) for prompt in prompts], write)


def text_responses(
    model: Model,
    edits: Edits,
    prompts: pd.DataFrame | Sequence[str],
    judge: TextJudge,
    *,
    decoding: Decoding | None = None,
    cache: JsonCache | None = None,
    progress: bool = False,
) -> pd.DataFrame:
    """Generate on open prompts under edits and let a judge read.

    The judge is shown the prompt itself, never a role instruction put before it. `cache`: see `write_texts`.

    Returns:
        One row per prompt and sample: `prompt, topic, sample, text, valid, score_VALUE...` (`oppose_VALUE...`).
    """
    how = decoding or Decoding()
    asked = _asked(prompts, how)
    return _responses(judge, prompts, write_texts(model, edits, asked, how, cache=cache, progress=progress), how)


def _asked(prompts: pd.DataFrame | Sequence[str], how: Decoding) -> list[str]:
    return [text for text in prompt_table(prompts)["text"] for _ in range(how.samples)]


def _responses(
    judge: TextJudge, prompts: pd.DataFrame | Sequence[str], texts: Sequence[str], how: Decoding
) -> pd.DataFrame:
    """The judge's reading of one condition's texts."""
    table, asked = prompt_table(prompts), _asked(prompts, how)
    read = score_texts(judge, texts, asked)
    head = pd.DataFrame(
        {
            "prompt": asked,
            "topic": np.repeat(table["topic"].to_numpy(dtype=object), how.samples),
            "sample": np.tile(np.arange(how.samples), len(table)),
        }
    )
    return pd.concat([head, read], axis=1)


@dataclass(frozen=True, eq=False)
class Observed:
    """What a judge said of one condition.

    Attributes:
        items: item scores of each measured value.
        net: expresses - opposes, where a text judge knows opposition.
        generations: the texts with their scores; None for a judge that reads none.
    """

    items: ItemScores
    net: ItemScores | None = None
    generations: pd.DataFrame | None = None

    @property
    def invalid(self) -> float:
        """Share of invalid texts; 0 for a judge that reads none."""
        return 0.0 if self.generations is None else float(1.0 - self.generations["valid"].mean())

    def csr(self, name: str) -> float:
        """Mean score of a value over its items (missing ones left out)."""
        return float(np.nanmean(self.items.scores[self.items.values.index(name)]))

    def _repr_html_(self) -> str:
        texts = None if self.generations is None else len(self.generations)
        found = card("Scores of one condition", {"texts": texts, "invalid": self.invalid}, self.items.table())
        return found if self.generations is None else found + card("First texts", table=self.generations, rows=3)

    def show(self) -> Any:
        """Mean score per measured value with intervals as a matplotlib figure."""
        return self.items.show()


def observe(
    model: Model,
    edits: Edits,
    prompts: pd.DataFrame | Sequence[str] | None,
    judge: Judge,
    *,
    decoding: Decoding | None = None,
    cache: JsonCache | None = None,
    reuse: LayerCache | None = None,
    progress: bool = False,
) -> Observed:
    """Put one condition before a judge of either kind.

    Args:
        model: a TransformerLens model.
        edits: in force; None = unedited.
        prompts: open prompts (text judges); a ModelJudge brings its own items.
        judge: reads the texts, or asks the model.
        decoding: of the texts.
        cache: of texts written before (`write_texts`); what a judge reads is kept by `CachedJudge`.
        reuse: of what enters the edited layers (`editing.edit`), where many conditions are put to a ModelJudge.
        progress: show a bar.

    Raises:
        InputError: a text judge without prompts.
    """
    if not reads_texts(judge):
        return Observed(_ask(model, edits, cast(ModelJudge, judge), reuse))
    if prompts is None:
        raise InputError(f"the judge {judge.name!r} reads texts: give open prompts for the model to continue")
    return _observed(text_responses(model, edits, prompts, judge, decoding=decoding, cache=cache, progress=progress))


def observe_many(
    model: Model,
    conditions: Sequence[Sequence[Edit]],
    prompts: pd.DataFrame | Sequence[str] | None,
    judge: Judge,
    *,
    decoding: Decoding | None = None,
    cache: JsonCache | None = None,
) -> list[Observed]:
    """`observe` for several conditions; a text judge's texts are written in common batches of `decoding.batch_size`.

    Args:
        model, prompts, judge, decoding, cache: as `observe`.
        conditions: the edits of each condition.
    """
    if not reads_texts(judge) or prompts is None or len(conditions) < 2:
        return [observe(model, edits, prompts, judge, decoding=decoding, cache=cache) for edits in conditions]
    how = decoding or Decoding()
    parts = write_texts_many(model, conditions, _asked(prompts, how), how, cache=cache)
    return [_observed(_responses(judge, prompts, part, how)) for part in parts]


def write_texts_many(
    model: Model,
    conditions: Sequence[Sequence[Edit]],
    asked: Sequence[str],
    how: Decoding,
    *,
    cache: JsonCache | None = None,
) -> list[list[str]]:
    """`write_texts` for several conditions on the same prompts, in common batches; one list of texts per condition."""
    from neva_tl.models import inference

    condition, number = (x.ravel() for x in np.indices((len(conditions), len(asked))))

    def write(places: list[int]) -> list[str]:
        with edit_rows(model, conditions, condition[places]) as session:
            return inference.generate(
                model,
                [rewrite(conditions[condition[place]], asked[number[place]]) for place in places],
                numbers=number[places].tolist(),
                session=session,
                **how.options(),
            )

    if cache is None or not all(cacheable(edits) for edits in conditions):
        texts = write(list(range(len(condition))))
    else:
        keys = [key for edits in conditions for key in text_keys(model, edits, asked, range(len(asked)), how)]
        texts = recall(cache, keys, [len(prompt) for prompt in asked] * len(conditions), write)
    return [texts[place : place + len(asked)] for place in range(0, len(texts), len(asked))]


def _observed(texts: pd.DataFrame) -> Observed:
    """Item scores of a judge's reading."""
    clusters = texts["topic"].to_numpy(dtype=str)

    def items(columns: Iterable[np.ndarray], bounds: tuple[float, float]) -> ItemScores:
        return ItemScores(VALUES, tuple(columns), tuple(clusters for _ in VALUES), shared=True, bounds=bounds)

    score = [texts[f"score_{name}"].to_numpy(dtype=float) for name in VALUES]
    net = None
    if f"oppose_{VALUES[0]}" in texts.columns:
        oppose = [texts[f"oppose_{name}"].to_numpy(dtype=float) for name in VALUES]
        net = items((s - o for s, o in zip(score, oppose, strict=True)), (-1.0, 1.0))
    return Observed(items(score, (0.0, 1.0)), net, texts)


def _ask(model: Model, edits: Edits, judge: ModelJudge, reuse: LayerCache | None) -> ItemScores:
    with edit(model, *as_edits(edits), reuse=reuse) as session:
        return judge.measure(model, session=session, rewrite=lambda prompt: rewrite(edits, prompt))
