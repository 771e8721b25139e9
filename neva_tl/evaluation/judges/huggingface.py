"""Any Hugging Face sequence classifier whose labels are the ten values or ValueEval's categories, as a judge.

`hf:FOLDER` is local; `hf:NAME` is the user naming a hub model, the only case that touches the network.

How labels are matched: upper and lower case, punctuation and spaces do not count, so that "Self-direction: thought",
"self_direction_thought" and "SELF-DIRECTION–THOUGHT" are one. Labels that are all values are values, else all must be
values or categories. A class of "none" (`NONE`) may be among them and is not reported.
"""

from __future__ import annotations

import hashlib
import warnings
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Bool, Float

from neva_tl.core.errors import InputError
from neva_tl.core.values import VALUES
from neva_tl.evaluation.judges.base import legible
from neva_tl.evaluation.labels.decisions import decide
from neva_tl.evaluation.labels.labelled import to_values
from neva_tl.models import sources
from neva_tl.prompts.readers.valueeval import CATEGORIES

#: Labels that stand for no value.
NONE = frozenset({"none", "novalue", "novalues", "other"})
#: Tokens in one batch, padding included.
_TOKENS = 4096


def match_labels(id2label: Mapping[int, str]) -> tuple[tuple[str, ...], tuple[int, ...]]:
    """Names of values or categories, and the output column of each, in the model's order.

    Raises:
        InputError: labels outside the theory (all of them are listed), or two that mean the same.
    """
    labels = {int(k): str(label) for k, label in sorted(id2label.items(), key=lambda item: int(item[0]))}
    used = {k: label for k, label in labels.items() if _plain(label) not in NONE}
    values, categories = {_plain(name): name for name in VALUES}, {_plain(name): name for name in CATEGORIES}
    known = values if all(_plain(label) in values for label in used.values()) else categories | values
    strange = [label for label in used.values() if _plain(label) not in known]
    if strange or not used:
        raise InputError(
            f"labels that are neither one of the ten values nor one of ValueEval's 20 categories: {', '.join(strange) or 'all'}; "
            "rename them in id2label of its config.json"
        )
    # "Stimulation" is a value and a category: beside categories it is the category
    table = known if known is values else values | categories
    names = tuple(table[_plain(label)] for label in used.values())
    twice = sorted({name for name in names if names.count(name) > 1})
    if twice:
        raise InputError(f"two labels stand for {', '.join(twice)}: rename one in id2label of its config.json")
    return names, tuple(used)


def _plain(label: str) -> str:
    return "".join(c for c in label.lower() if c.isalnum())


@dataclass(frozen=True, eq=False)
class HuggingFaceJudge:
    """Sigmoid of each label's logit (multi-label models) or the softmax over labels (single-label models).

    Attributes:
        source: what the model is called.
        model, tokenizer: of transformers.
        names: categories or values that its outputs stand for.
        columns: the output of each name.
        multi: whether each label is judged on its own.
    """

    source: str
    model: Any
    tokenizer: Any
    names: tuple[str, ...]
    columns: tuple[int, ...]
    multi: bool

    @property
    def name(self) -> str:
        """Shown in tables, and part of cache keys: it changes with the weights."""
        return f"hf-{self.source}-{self.fingerprint[:8]}"

    @property
    def unit(self) -> str:
        """What a score of 1 means."""
        return "P(expresses)" if self.multi else "share of a forced choice"

    @cached_property
    def fingerprint(self) -> str:
        """sha256 over the weights and the labels."""
        digest = hashlib.sha256(repr((self.names, self.columns, self.multi)).encode())
        for key, weight in sorted(self.model.state_dict().items()):
            digest.update(f"{key} {weight.dtype} {tuple(weight.shape)}".encode())
            digest.update(weight.detach().cpu().contiguous().float().numpy().tobytes())
        return digest.hexdigest()

    def categories(self, texts: Sequence[str], prompts: Sequence[str] | None = None) -> Float[np.ndarray, "n c"]:
        """P of each of `names`; 0 where the text is no language. The text alone is read, never the prompt."""
        found = self._probabilities(list(texts))[:, list(self.columns)]
        return np.where(legible(texts)[:, None], found, 0.0)

    def score(self, texts: Sequence[str], prompts: Sequence[str] | None = None) -> Float[np.ndarray, "n 10"]:
        """P of each value: the largest of its categories'; NaN for values that the model has no label for."""
        return to_values(self.categories(texts), self.names)

    def decide(self, scores: Float[np.ndarray, "n c"]) -> Float[np.ndarray, "n c"]:
        """1 from a probability of .5 on."""
        return decide(scores, 0.5)

    def oppose(self, texts: Sequence[str], prompts: Sequence[str] | None = None) -> None:
        """Its labels know no opposition."""
        return None

    def valid(self, texts: Sequence[str], prompts: Sequence[str] | None = None) -> Bool[np.ndarray, " n"]:
        """Not empty and at most half of its 4-grams repeated."""
        return legible(texts)

    def _probabilities(self, texts: list[str]) -> np.ndarray:
        import torch

        out = np.full((len(texts), int(self.model.config.num_labels)), np.nan)
        if not texts:
            return out
        encoded = self.tokenizer(texts, truncation=True, max_length=_context(self.model, self.tokenizer))["input_ids"]
        # a text of no tokens cannot be read: it is missing, unless it is illegible anyway
        order = [k for k in np.argsort([len(ids) for ids in encoded], kind="stable").tolist() if encoded[k]]
        for batch in _batches(order, encoded, 1 if self.tokenizer.pad_token_id is None else len(texts)):
            inputs = {"input_ids": [encoded[k] for k in batch]}
            padded = (
                self.tokenizer.pad(inputs, return_tensors="pt")
                if len(batch) > 1
                else {
                    "input_ids": torch.tensor(inputs["input_ids"]),
                    "attention_mask": torch.ones(1, len(encoded[batch[0]]), dtype=torch.long),
                }
            )
            with torch.inference_mode():
                given = {k: padded[k].to(self.model.device) for k in ("input_ids", "attention_mask")}
                logits = self.model(**given).logits.double()
            out[batch] = (torch.sigmoid(logits) if self.multi else torch.softmax(logits, dim=-1)).cpu().numpy()
        return out


def load(name: str) -> HuggingFaceJudge:
    """The factory behind `hf:NAME_OR_FOLDER`.

    Warns where the config asks for one label per text (a forced choice, by which leakage cannot show), and where it does
    not say (taken as several).

    Raises:
        InputError: nothing there, no network, not a sequence classifier, or labels outside the theory.
    """
    import torch
    from transformers import AutoConfig, AutoModelForSequenceClassification

    where = _place(name)
    with sources.quiet():
        try:
            config = AutoConfig.from_pretrained(where)
        except (OSError, ValueError, KeyError) as error:
            raise InputError(f"hf:{name}: no model can be read there: {_line(error)}") from error
        kinds = [str(kind) for kind in getattr(config, "architectures", None) or ()]
        if not any("SequenceClassification" in kind for kind in kinds):
            raise InputError(
                f"hf:{name} is no sequence classifier: its config names {', '.join(kinds) or 'no architecture'}"
            )
        try:
            names, columns = match_labels(config.id2label)
        except InputError as error:
            raise InputError(f"hf:{name} has {error}") from error
        try:
            tokenizer = sources.read_tokenizer(where)
            model = AutoModelForSequenceClassification.from_pretrained(where, dtype=torch.float32)
        except (OSError, ValueError, KeyError, RuntimeError) as error:
            raise InputError(f"hf:{name}: model or tokenizer cannot be read: {_line(error)}") from error
    kind = getattr(config, "problem_type", None)
    if kind == "single_label_classification":
        warnings.warn(f"hf:{name} chooses one label per text: a forced choice cannot show leakage")
    elif kind != "multi_label_classification":
        warnings.warn(f"hf:{name}: its config has no problem_type; each label is judged on its own (sigmoid)")
    if config.pad_token_id is None and tokenizer.pad_token_id is not None:
        model.config.pad_token_id = tokenizer.pad_token_id
    model.to("cuda" if torch.cuda.is_available() else "cpu").eval()
    return HuggingFaceJudge(Path(name).name, model, tokenizer, names, columns, kind != "single_label_classification")


def _place(name: str) -> str:
    """A folder, or a hub name that can be answered without minutes of retries."""
    folder = Path(name).expanduser()
    if folder.is_dir():
        if not (folder / "config.json").exists():
            raise InputError(f"hf:{name}: the folder has no config.json: name the folder of a saved classifier")
        return str(folder)
    try:
        found = sources.from_hub(name)
    except InputError as error:
        raise InputError(f"hf:{name}: no such folder, and the hub does not answer for that name ({error})") from error
    return str(found.path or found.hub)


def _context(model: Any, tokenizer: Any) -> int:
    """Longest text in tokens; what is longer is cut at its end."""
    limits = [getattr(model.config, "max_position_embeddings", None), tokenizer.model_max_length]
    return min([int(x) for x in limits if x and x > 0] or [512])


def _batches(order: list[int], encoded: Sequence[Sequence[int]], most: int) -> list[list[int]]:
    """Texts of about equal length together, at most `_TOKENS` with padding."""
    out: list[list[int]] = []
    for k in order:
        full = not out or len(out[-1]) >= most or len(encoded[k]) * (len(out[-1]) + 1) > _TOKENS
        if full:
            out.append([])
        out[-1].append(k)
    return out


def _line(error: Exception) -> str:
    return (str(error).strip().splitlines() or [type(error).__name__])[0]
