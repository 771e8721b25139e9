"""Judge from a Hugging Face sequence classifier.

Its labels are the ten values or ValueEval's categories. `hf:FOLDER` is local; `hf:NAME` is a model on the hub, the only case that
uses the network.

Labels are matched without regard to case, punctuation and spaces: "Self-direction: thought", "self_direction_thought" and
"SELF-DIRECTION–THOUGHT" are the same label. If all labels are names of values, they are values; otherwise each must be a value
or a category. A class for "none" (`NONE`) is allowed and ignored.
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
from neva_tl.core.messages import progress_bar
from neva_tl.core.theories.schwartz import SCHWARTZ
from neva_tl.evaluation.judges.base import legible
from neva_tl.evaluation.labels.decisions import decide
from neva_tl.evaluation.labels.labelled import to_values
from neva_tl.models import sources
from neva_tl.prompts.readers.valueeval import CATEGORIES

#: Labels that mean the absence of any value.
NONE = frozenset({"none", "novalue", "novalues", "other"})
#: Tokens in one batch, padding included.
_TOKENS = 4096


def match_labels(id2label: Mapping[int, str]) -> tuple[tuple[str, ...], tuple[int, ...]]:
    """Match a model's labels with values or categories.

    Args:
        id2label: Output column -> label.

    Returns:
        Names of values or categories, and the output column of each, in the model's order.

    Raises:
        InputError: Some labels are outside the theory (the message lists them), or two labels have the same meaning.
    """
    labels = {int(k): str(label) for k, label in sorted(id2label.items(), key=lambda item: int(item[0]))}
    used = {k: label for k, label in labels.items() if _plain(label) not in NONE}
    values, categories = {_plain(name): name for name in SCHWARTZ.names}, {_plain(name): name for name in CATEGORIES}
    allowed = values if all(_plain(label) in values for label in used.values()) else categories | values
    strange = [label for label in used.values() if _plain(label) not in allowed]
    if strange or not used:
        raise InputError(
            f"labels that are neither one of the ten values nor one of ValueEval's 20 categories: {', '.join(strange) or 'all'}; "
            "rename them in id2label of its config.json"
        )
    # "Stimulation" is a value and a category; among categories it means the category
    table = allowed if allowed is values else values | categories
    names = tuple(table[_plain(label)] for label in used.values())
    twice = sorted({name for name in names if names.count(name) > 1})
    if twice:
        raise InputError(f"two labels stand for {', '.join(twice)}: rename one in id2label of its config.json")
    return names, tuple(used)


def _plain(label: str) -> str:
    return "".join(c for c in label.lower() if c.isalnum())


@dataclass(frozen=True, eq=False)
class HuggingFaceJudge:
    """Scores by the sigmoid of each logit, or by the softmax over labels.

    Multi-label models use the sigmoid, single-label models the softmax.

    Attributes:
        source: Name of the model.
        model: Model of transformers.
        tokenizer: Tokenizer of the model.
        names: Categories or values of the outputs.
        columns: Output column of each name.
        multi: Whether the model is multi-label.
    """

    source: str
    model: Any
    tokenizer: Any
    names: tuple[str, ...]
    columns: tuple[int, ...]
    multi: bool

    @property
    def name(self) -> str:
        """Name in tables and part of cache keys; it changes with the weights."""
        return f"hf-{self.source}-{self.fingerprint[:8]}"

    @property
    def unit(self) -> str:
        """Meaning of a score of 1."""
        return "P(expresses)" if self.multi else "share of a forced choice"

    @cached_property
    def fingerprint(self) -> str:
        """The sha256 of the weights and the labels."""
        digest = hashlib.sha256(repr((self.names, self.columns, self.multi)).encode())
        for key, weight in sorted(self.model.state_dict().items()):
            digest.update(f"{key} {weight.dtype} {tuple(weight.shape)}".encode())
            digest.update(weight.detach().cpu().contiguous().float().numpy().tobytes())
        return digest.hexdigest()

    def categories(self, texts: Sequence[str], prompts: Sequence[str] | None = None) -> Float[np.ndarray, "n c"]:
        """Return the probability of each of `names`; 0 where the text is not legible.

        Args:
            texts: The texts to score.
            prompts: Ignored: only the text is scored.
        """
        del prompts
        probabilities = self._probabilities(list(texts))[:, list(self.columns)]
        return np.where(legible(texts)[:, None], probabilities, 0.0)

    def score(self, texts: Sequence[str], prompts: Sequence[str] | None = None) -> Float[np.ndarray, "n v"]:
        """Return the probability of each value, the largest one of its categories.

        NaN for values without a label.

        Args:
            texts: The texts to score.
            prompts: Ignored: only the text is scored.
        """
        del prompts
        return to_values(self.categories(texts), self.names)

    def decide(self, scores: Float[np.ndarray, "n c"]) -> Float[np.ndarray, "n c"]:
        """Return 1 for probabilities of .5 or more, else 0."""
        return decide(scores, 0.5)

    def oppose(self, texts: Sequence[str], prompts: Sequence[str] | None = None) -> None:
        """Return None: the labels do not include opposition."""
        del texts, prompts

    def valid(self, texts: Sequence[str], prompts: Sequence[str] | None = None) -> Bool[np.ndarray, " n"]:
        """Return which texts are legible; see `base.legible`."""
        del prompts  # only the text is checked
        return legible(texts)

    def _probabilities(self, texts: list[str]) -> np.ndarray:
        import torch

        out = np.full((len(texts), int(self.model.config.num_labels)), np.nan)
        if not texts:
            return out
        encoded = self.tokenizer(texts, truncation=True, max_length=_context(self.model, self.tokenizer))["input_ids"]
        # a text without tokens has a missing score, unless it is not legible (then 0)
        order = [k for k in np.argsort([len(ids) for ids in encoded], kind="stable").tolist() if encoded[k]]
        plan = list(_batches(order, encoded, 1 if self.tokenizer.pad_token_id is None else len(texts)))
        for batch in progress_bar(plan, desc=self.name, unit="batch"):
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
                batch_inputs = {k: padded[k].to(self.model.device) for k in ("input_ids", "attention_mask")}
                logits = self.model(**batch_inputs).logits.double()
            out[batch] = (torch.sigmoid(logits) if self.multi else torch.softmax(logits, dim=-1)).cpu().numpy()
        return out


def load(name: str) -> HuggingFaceJudge:
    """Load the judge of `hf:NAME_OR_FOLDER`.

    Warns where the config is single-label (a forced choice, which hides leakage), and where it has no problem type (treated as
    multi-label).

    Args:
        name: Folder of a saved classifier, or name of a model on the hub.

    Raises:
        InputError: The model is missing, the hub cannot be reached, the model is not a sequence classifier, or its labels are
            outside the theory.
    """
    import torch
    from transformers import AutoConfig, AutoModelForSequenceClassification

    where = _source(name)
    with sources.quiet():
        try:
            config = AutoConfig.from_pretrained(where, trust_remote_code=False)
        except (OSError, ValueError, KeyError) as error:
            raise InputError(f"hf:{name}: no model can be read there: {_line(error)}") from error
        kinds = [str(kind) for kind in getattr(config, "architectures", None) or ()]
        if not any("SequenceClassification" in kind for kind in kinds):
            raise InputError(
                f"hf:{name} is not a sequence classifier: its config names {', '.join(kinds) or 'no architecture'}"
            )
        try:
            names, columns = match_labels(config.id2label)
        except InputError as error:
            raise InputError(f"hf:{name} has {error}") from error
        try:
            tokenizer = sources.read_tokenizer(where)
            model = AutoModelForSequenceClassification.from_pretrained(
                where, dtype=torch.float32, trust_remote_code=False
            )
        except (OSError, ValueError, KeyError, RuntimeError) as error:
            raise InputError(f"hf:{name}: model or tokenizer cannot be read: {_line(error)}") from error
    kind = getattr(config, "problem_type", None)
    if kind == "single_label_classification":
        warnings.warn(f"hf:{name} chooses one label per text: a forced choice cannot show leakage")
    elif kind != "multi_label_classification":
        warnings.warn(f"hf:{name}: its config has no problem_type; each label is scored separately (sigmoid)")
    if config.pad_token_id is None and tokenizer.pad_token_id is not None:
        model.config.pad_token_id = tokenizer.pad_token_id
    model.to("cuda" if torch.cuda.is_available() else "cpu").eval()
    return HuggingFaceJudge(Path(name).name, model, tokenizer, names, columns, kind != "single_label_classification")


def _source(name: str) -> str:
    """Return a folder, or a hub name that the hub answers without minutes of retries."""
    folder = Path(name).expanduser()
    if folder.is_dir():
        if not (folder / "config.json").exists():
            raise InputError(f"hf:{name}: the folder has no config.json: name the folder of a saved classifier")
        return str(folder)
    try:
        source = sources.from_hub(name)
    except InputError as error:
        raise InputError(f"hf:{name}: no such folder, and the hub does not answer for that name ({error})") from error
    return str(source.path or source.hub)


def _context(model: Any, tokenizer: Any) -> int:
    """Return the longest text in tokens; longer texts are truncated at their end."""
    limits = [getattr(model.config, "max_position_embeddings", None), tokenizer.model_max_length]
    return min([int(x) for x in limits if x and x > 0] or [512])


def _batches(order: list[int], encoded: Sequence[Sequence[int]], most: int) -> list[list[int]]:
    """Group texts of similar length into batches of at most `_TOKENS` with padding."""
    out: list[list[int]] = []
    for k in order:
        full = not out or len(out[-1]) >= most or len(encoded[k]) * (len(out[-1]) + 1) > _TOKENS
        if full:
            out.append([])
        out[-1].append(k)
    return out


def _line(error: Exception) -> str:
    return (str(error).strip().splitlines() or [type(error).__name__])[0]
