"""Judge trained on labelled texts: one logistic regression per category.

The features are TF-IDF, sentence embeddings or both. The judge reads only the text, never the prompt: a prompt contains the
question, not the values that the answer expresses (and on ValueEval's validation texts, adding the conclusion before the premise
lowered average precision). Scores are probabilities. Decisions use the threshold of each category with the best F1 on validation
texts, since a rare category may never reach .5.
"""

from __future__ import annotations

import hashlib
import json
import zipfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Bool, Float

from neva_tl.core.cache import content_key
from neva_tl.core.cards import card
from neva_tl.core.errors import InputError
from neva_tl.core.files import atomic_write, check_own_folder, read_json, to_json
from neva_tl.core.messages import progress_bar
from neva_tl.evaluation.judges.base import legible
from neva_tl.evaluation.judges.card import judge_card, judge_line
from neva_tl.evaluation.judges.features import Features, encoder_hash
from neva_tl.evaluation.labels.decisions import cells, decide, macro, rates
from neva_tl.evaluation.labels.labelled import LabelledTexts, to_values, value_of

FORMAT = "neva_tl classifier judge"
#: Inverse strengths of the L2 penalty that training compares.
STRENGTHS = (0.3, 1.0, 3.0)


@dataclass(frozen=True, eq=False)
class Classifier:
    """`P(expresses)` of each category by logistic regression.

    A value's score is the largest one of its categories. Values without a labelled category are missing (NaN). The labels do not
    mark opposition, so `oppose` returns None.

    Attributes:
        names: Categories of ValueEval, or values.
        features: Fitted features.
        coef: Weights per category and feature.
        intercept: Intercept of each category.
        thresholds: Lowest score that decides for each category.
        info: Record of the training: data (name, number, hash), penalty, seed, measures on validation texts.
    """

    names: tuple[str, ...]
    features: Features
    coef: Float[np.ndarray, "c d"]
    intercept: Float[np.ndarray, " c"]
    thresholds: Float[np.ndarray, " c"]
    info: Mapping[str, Any]

    _reads = "the text; the prompt is ignored"
    __repr__ = judge_line

    def _facts(self) -> dict[str, Any]:
        return {"features": self.features.width, "penalty 1 /": self.info["strength"], **self.info["data"]}

    def _quality(self) -> str:
        f1 = self.info["validation"].get("macro_f1")
        return "" if f1 is None else f"macro F1 {float(f1):.2f} on validation texts, which selected its thresholds"

    @property
    def name(self) -> str:
        """Name in tables and part of cache keys; it changes with the content."""
        return f"classifier-{self.features.kind}-{self.fingerprint[:8]}"

    @property
    def unit(self) -> str:
        """Meaning of a score of 1."""
        return "P(expresses)"

    @property
    def labels(self) -> str:
        """Source of its labelled texts for `LabelledTexts.load`; empty where unknown."""
        return str(self.info.get("data", {}).get("source", ""))

    @cached_property
    def fingerprint(self) -> str:
        """The sha256 of all fields that determine its scores and decisions."""
        digest = hashlib.sha256()
        arrays = {"coef": self.coef, "intercept": self.intercept, "thresholds": self.thresholds, **self.features.idf}
        for key in sorted(arrays):
            digest.update(f"{key} {arrays[key].dtype.str} {arrays[key].shape}".encode())
            digest.update(np.ascontiguousarray(arrays[key]).tobytes())
        terms = {key: list(words) for key, words in self.features.vocabulary.items()}
        digest.update(content_key(list(self.names), self.features.kind, terms, self.features.encoder).encode())
        return digest.hexdigest()

    def categories(self, texts: Sequence[str], prompts: Sequence[str] | None = None) -> Float[np.ndarray, "n c"]:
        """Return P(expresses) of each category (`names`); 0 where the text is not legible.

        Args:
            texts: The texts to score.
            prompts: Ignored: only the text is scored.
        """
        del prompts
        if not len(texts):
            return np.zeros((0, len(self.names)))
        logits = np.asarray(self.features.matrix(texts) @ self.coef.T.astype(float)) + self.intercept
        return np.where(legible(texts)[:, None], _expit(logits), 0.0)

    def score(self, texts: Sequence[str], prompts: Sequence[str] | None = None) -> Float[np.ndarray, "n v"]:
        """Return P(expresses) of each value, the largest one of its categories.

        Args:
            texts: The texts to score.
            prompts: Ignored: only the text is scored.
        """
        del prompts
        return to_values(self.categories(texts), self.names)

    def decide(self, scores: Float[np.ndarray, "n c"]) -> Float[np.ndarray, "n c"]:
        """Return 1 or 0 for each category score, by the thresholds of the training."""
        return decide(scores, self.thresholds)

    def oppose(self, texts: Sequence[str], prompts: Sequence[str] | None = None) -> None:
        """Return None: the labels do not include opposition."""
        del texts, prompts

    def valid(self, texts: Sequence[str], prompts: Sequence[str] | None = None) -> Bool[np.ndarray, " n"]:
        """Return which texts are legible; see `base.legible`."""
        del prompts  # only the text is checked
        return legible(texts)

    @property
    def df(self) -> Any:
        """Table with one row per category: threshold and measures on the validation texts."""
        import pandas as pd

        return pd.DataFrame(self.info["validation"]["categories"])

    def save(self, folder: str | Path) -> Path:
        """Write `classifier.json` and `classifier.npz` into a separate folder.

        Args:
            folder: The folder. Created where it is missing.

        Raises:
            InputError: The folder contains other files.
        """
        folder = Path(folder)
        check_place(folder)
        folder.mkdir(parents=True, exist_ok=True)
        arrays = {"coef": self.coef, "intercept": self.intercept, "thresholds": self.thresholds}
        arrays |= {f"idf_{name}": idf for name, idf in self.features.idf.items()}
        about = {
            "format": FORMAT,
            "schema": 1,
            "fingerprint": self.fingerprint,
            "names": list(self.names),
            "features": self.features.kind,
            "encoder": self.features.encoder,
            **self.info,
            "vocabulary": {name: list(terms) for name, terms in self.features.vocabulary.items()},
        }
        # each write is atomic, and the fingerprint detects files that do not belong together
        with atomic_write(folder / "classifier.npz") as numbers, atomic_write(folder / "classifier.json") as words:
            np.savez_compressed(numbers, **arrays)  # type: ignore[arg-type]
            words.write_text(json.dumps(about, ensure_ascii=False, allow_nan=False), encoding="utf-8")
        return folder

    @classmethod
    def load(cls, folder: str | Path) -> Classifier:
        """Read a classifier that `save` wrote.

        Args:
            folder: The folder.

        Raises:
            InputError: The folder is missing, contains no judge, contains a damaged file, or needs another encoder.
        """
        folder = Path(folder).expanduser()
        about = _about(folder)
        try:
            with np.load(folder / "classifier.npz", allow_pickle=False) as file:
                arrays = {name: file[name] for name in file.files}
            separate = {"format", "schema", "fingerprint", "names", "features", "encoder", "vocabulary"}
            vocabulary = {name: tuple(terms) for name, terms in about["vocabulary"].items()}
            idf = {name: arrays[f"idf_{name}"] for name in vocabulary}
            out = cls(
                tuple(about["names"]),
                Features(about["features"], vocabulary, idf, about["encoder"]),
                arrays["coef"],
                arrays["intercept"],
                arrays["thresholds"],
                {key: x for key, x in about.items() if key not in separate},
            )
            unchanged = out.fingerprint == about["fingerprint"] and out.coef.shape == (
                len(out.names),
                out.features.width,
            )
        except (OSError, ValueError, KeyError, TypeError, AttributeError, zipfile.BadZipFile) as error:
            raise InputError(
                f"{folder} holds a damaged judge ({error}): train it again (neva-tl train-judge)"
            ) from error
        if not unchanged:
            raise InputError(f"{folder}: the files of this judge were changed: train it again (neva-tl train-judge)")
        if out.features.encoder and out.features.encoder != encoder_hash():
            raise InputError(f"{folder} was trained on other sentence embeddings than those installed: train it again")
        return out

    def _repr_html_(self) -> str:
        return judge_card(self) + card("Validation", table=self.df)

    def show(self) -> Any:
        """Plot F1 per category on the validation texts as a matplotlib figure."""
        from neva_tl.plots import interval_plot

        table = self.df.assign(est=lambda df: df["f1"], lo=np.nan, hi=np.nan)
        return interval_plot(table, title=f"{self.name} on validation texts", axis="F1")


def load(folder: str) -> Classifier:
    """Load the judge of `classifier:PATH`.

    Args:
        folder: Folder of a saved classifier.
    """
    return Classifier.load(folder)


def check_place(folder: Path) -> None:
    """Check that a judge can be saved in a folder, before minutes of training.

    Args:
        folder: The folder.

    Raises:
        InputError: The path is a file, cannot be written, or is a folder with other files.
    """
    check_own_folder(folder, ("classifier.json",), "judge", "choose another folder, or delete it")


def stored_judge(folder: Path, labelled: LabelledTexts, features: str, seed: int) -> Classifier | None:
    """Read the judge of a folder that the same training wrote; None where the folder has none.

    Args:
        folder: The folder.
        labelled: See `train`.
        features: See `train`.
        seed: See `train`.

    Raises:
        InputError: The folder holds a judge that was trained on other texts, with other features or another seed.
    """
    if not (folder / "classifier.json").exists():
        return None
    judge = Classifier.load(folder)
    data = judge.info.get("data")
    requested = (_data_hash(labelled), features, seed)
    stored = (data.get("hash") if isinstance(data, dict) else None, judge.features.kind, judge.info.get("seed"))
    for what, old, new in zip(("texts", "features", "seed"), stored, requested, strict=True):
        if old != new:
            difference = "other texts" if what == "texts" else f"{what} was {old}, now {new}"
            raise InputError(f"{folder} holds another judge ({difference}): choose another folder, or delete it")
    return judge


def _data_hash(labelled: LabelledTexts) -> str:
    splits = [labelled.split(name) for name in ("train", "validation")]
    return content_key([[split.texts, to_json(split.labels.tolist())] for split in splits], list(labelled.names))


def train(labelled: LabelledTexts, features: str = "both", *, seed: int = 0) -> Classifier:
    """Train a classifier on the split `train`.

    The split `validation` selects the penalty (least log loss) and the thresholds (best F1).

    Args:
        labelled: Texts with splits; test texts are not used. Columns without a 0 or without a 1 among the training labels are
            left out.
        features: tfidf, minilm or both.
        seed: Seed of the solver.

    Raises:
        InputError: The train or validation split is missing, no column can be learned, or a package is missing.
    """
    import sklearn

    for_training, for_choice = labelled.split("train"), labelled.split("validation")
    learnable = [k for k in range(len(labelled.names)) if {0.0, 1.0} <= set(for_training.labels[:, k].tolist())]
    if not learnable:
        raise InputError(f"{labelled.name}: no column has texts labelled 1 and texts labelled 0 in the training split")
    for k in learnable:
        value_of(labelled.names[k])
    fitted = Features.fit(for_training.texts, features)
    x, x_choice = fitted.matrix(for_training.texts), fitted.matrix(for_choice.texts)
    y, y_choice = for_training.labels[:, learnable], for_choice.labels[:, learnable]
    candidates = []
    for strength in progress_bar(STRENGTHS, desc="training", unit="fit"):
        coef, intercept = _regressions(x, y, strength, seed)
        logits = np.asarray(x_choice @ coef.T.astype(float)) + intercept
        candidates.append((_log_loss(logits, y_choice), strength, coef, intercept, logits))
    loss, strength, coef, intercept, logits = min(candidates, key=lambda candidate: candidate[0])
    names = tuple(labelled.names[k] for k in learnable)
    scores = _expit(logits)
    thresholds = np.array([best_threshold(scores[:, k], y_choice[:, k]) for k in range(len(names))])
    table = cells(decide(scores, thresholds), y_choice).sum(axis=0)
    per_category = rates(table)
    info = {
        "strength": strength,
        "seed": seed,
        "scikit-learn": sklearn.__version__,
        "data": {
            "labels": labelled.name,
            "source": labelled.source,
            "training texts": len(for_training),
            "validation texts": len(for_choice),
            "hash": _data_hash(labelled),
        },
        # optimistic: the thresholds were selected on these texts
        "validation": {
            "log_loss": loss,
            "log_loss_tried": {str(candidate[1]): candidate[0] for candidate in candidates},
            **{name: to_json(x) for name, x in macro(table).items()},
            "categories": [
                {
                    "label": name,
                    "threshold": float(thresholds[k]),
                    **{measure: to_json(column[k]) for measure, column in per_category.items()},
                }
                for k, name in enumerate(names)
            ],
        },
    }
    return Classifier(names, fitted, coef, intercept, thresholds, info)


def best_threshold(scores: Float[np.ndarray, " n"], labels: Float[np.ndarray, " n"]) -> float:
    """Return the threshold with the best F1; .5 where no label is 1.

    Args:
        scores: Scores of one category.
        labels: Labels of the same texts; NaN is ignored.
    """
    from sklearn.metrics import precision_recall_curve

    labelled = ~np.isnan(labels)
    if not (labels[labelled] == 1).any():
        return 0.5
    precision, recall, thresholds = precision_recall_curve(labels[labelled], scores[labelled])
    f1 = 2 * precision * recall / np.maximum(precision + recall, 1e-12)
    return float(thresholds[np.argmax(f1[:-1])])


def _regressions(x: Any, y: np.ndarray, strength: float, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Fit weights `[c, d]` (float32, as on disk) and intercepts `[c]`.

    Rows of unknown label are left out.
    """
    from sklearn.linear_model import LogisticRegression

    coef, intercept = [], []
    for column in y.T:
        labelled = np.flatnonzero(~np.isnan(column))
        model = LogisticRegression(C=strength, solver="liblinear", max_iter=1000, random_state=seed % 2**32)
        model.fit(x[labelled], column[labelled].astype(int))
        coef.append(model.coef_[0].astype(np.float32))
        intercept.append(float(model.intercept_[0]))
    return np.stack(coef), np.array(intercept)


def _log_loss(logits: np.ndarray, labels: np.ndarray) -> float:
    """Compute the mean over columns of the log loss on texts of known label."""
    from sklearn.metrics import log_loss

    losses = []
    for k in range(labels.shape[1]):
        labelled = ~np.isnan(labels[:, k])
        if labelled.any():
            losses.append(log_loss(labels[labelled, k], _expit(logits[labelled, k]), labels=[0.0, 1.0]))
    if not losses:
        raise InputError("the validation texts have no label of the trained columns")
    return float(np.mean(losses))


def _expit(x: np.ndarray) -> np.ndarray:
    from scipy.special import expit

    return np.asarray(expit(x))


def _about(folder: Path) -> dict[str, Any]:
    """Read and check the JSON file of a judge."""
    if not folder.is_dir():
        raise InputError(f"{folder} is not a folder: train a judge there (neva-tl train-judge --out {folder})")
    file = folder / "classifier.json"
    if not file.exists():
        raise InputError(f"{folder} holds no judge (no classifier.json): train one with neva-tl train-judge")
    try:
        about = read_json(file, "a judge")
    except InputError as error:
        raise InputError(f"{error}: train the judge again (neva-tl train-judge)") from error
    if about.get("format") != FORMAT or about.get("schema") != 1:
        raise InputError(f"{file} is not a judge of this version of neva_tl: train it again (neva-tl train-judge)")
    return about
