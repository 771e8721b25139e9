"""A judge trained on labelled texts: one logistic regression per category, on TF-IDF, sentence embeddings or both.

It reads the text alone, never the prompt: a prompt says what was asked, not what the answer expresses (and on
ValueEval's validation texts the conclusion before the premise lowered average precision). Its scores are probabilities;
its decisions use a threshold per category that gave the best F1 on validation texts, since a rare category may never
reach .5.
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
from neva_tl.core.files import whole_file
from neva_tl.core.json_data import finite
from neva_tl.evaluation.judges.base import legible
from neva_tl.evaluation.judges.features import Features, encoder_hash
from neva_tl.evaluation.labels.decisions import cells, decide, macro, rates
from neva_tl.evaluation.labels.labelled import LabelledTexts, to_values, value_of

FORMAT = "neva_tl classifier judge"
#: Inverse strengths of the L2 penalty to choose from.
STRENGTHS = (0.3, 1.0, 3.0)


@dataclass(frozen=True, eq=False)
class Classifier:
    """`P(expresses)` of each category by logistic regression; a value's score is the largest of its categories'.

    Values that no category stands for (nobody labelled them) are missing: NaN. Nothing in the texts marks opposition,
    so that `oppose` is None.

    Attributes:
        names: categories of ValueEval, or values.
        features: what it sees.
        coef: weights per category and feature.
        intercept: per category.
        thresholds: a category is decided to be there from this score on.
        info: how it was made: training data (name, number, hash), penalty, seed, measures on validation texts.
    """

    names: tuple[str, ...]
    features: Features
    coef: Float[np.ndarray, "c d"]
    intercept: Float[np.ndarray, " c"]
    thresholds: Float[np.ndarray, " c"]
    info: Mapping[str, Any]

    @property
    def name(self) -> str:
        """Shown in tables, and part of cache keys: it changes with the content."""
        return f"classifier-{self.features.kind}-{self.fingerprint[:8]}"

    @property
    def unit(self) -> str:
        """What a score of 1 means."""
        return "P(expresses)"

    @property
    def labels(self) -> str:
        """Where its labelled texts came from, for `LabelledTexts.load`; empty where that was not written down."""
        return str(self.info.get("data", {}).get("source", ""))

    @cached_property
    def fingerprint(self) -> str:
        """sha256 of all that decides its scores and decisions."""
        digest = hashlib.sha256()
        arrays = {"coef": self.coef, "intercept": self.intercept, "thresholds": self.thresholds, **self.features.idf}
        for key in sorted(arrays):
            digest.update(f"{key} {arrays[key].dtype.str} {arrays[key].shape}".encode())
            digest.update(np.ascontiguousarray(arrays[key]).tobytes())
        terms = {key: list(found) for key, found in self.features.vocabulary.items()}
        digest.update(content_key(list(self.names), self.features.kind, terms, self.features.encoder).encode())
        return digest.hexdigest()

    def categories(self, texts: Sequence[str], prompts: Sequence[str] | None = None) -> Float[np.ndarray, "n c"]:
        """P(expresses) of each category (`names`); 0 where the text is no language."""
        if not len(texts):
            return np.zeros((0, len(self.names)))
        found = np.asarray(self.features.matrix(texts) @ self.coef.T.astype(float)) + self.intercept
        return np.where(legible(texts)[:, None], _expit(found), 0.0)

    def score(self, texts: Sequence[str], prompts: Sequence[str] | None = None) -> Float[np.ndarray, "n 10"]:
        """P(expresses) of each value: the largest of its categories'."""
        return to_values(self.categories(texts), self.names)

    def decide(self, scores: Float[np.ndarray, "n c"]) -> Float[np.ndarray, "n c"]:
        """1 or 0 for each category score, by the thresholds chosen on validation texts."""
        return decide(scores, self.thresholds)

    def oppose(self, texts: Sequence[str], prompts: Sequence[str] | None = None) -> None:
        """It knows presence and absence only."""
        return None

    def valid(self, texts: Sequence[str], prompts: Sequence[str] | None = None) -> Bool[np.ndarray, " n"]:
        """Not empty and at most half of its 4-grams repeated."""
        return legible(texts)

    @property
    def df(self) -> Any:
        """One row per category: threshold, and how it did on the validation texts that chose it."""
        import pandas as pd

        return pd.DataFrame(self.info["validation"]["categories"])

    def save(self, folder: str | Path) -> Path:
        """Write `classifier.json` and `classifier.npz` into a folder of its own.

        Raises:
            InputError: the folder holds something else.
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
        # each whole or not at all; the fingerprint finds two that do not belong together
        with whole_file(folder / "classifier.npz") as numbers, whole_file(folder / "classifier.json") as words:
            np.savez_compressed(numbers, **arrays)  # type: ignore[arg-type]
            words.write_text(json.dumps(about, ensure_ascii=False, allow_nan=False), encoding="utf-8")
        return folder

    @classmethod
    def load(cls, folder: str | Path) -> Classifier:
        """Read what `save` wrote.

        Raises:
            InputError: no such folder, nothing of ours in it, a damaged file, or another encoder than it was trained on.
        """
        folder = Path(folder).expanduser()
        about = _about(folder)
        try:
            with np.load(folder / "classifier.npz", allow_pickle=False) as file:
                arrays = {name: file[name] for name in file.files}
            kept = {"format", "schema", "fingerprint", "names", "features", "encoder", "vocabulary"}
            vocabulary = {name: tuple(terms) for name, terms in about["vocabulary"].items()}
            idf = {name: arrays[f"idf_{name}"] for name in vocabulary}
            out = cls(
                tuple(about["names"]),
                Features(about["features"], vocabulary, idf, about["encoder"]),
                arrays["coef"],
                arrays["intercept"],
                arrays["thresholds"],
                {key: x for key, x in about.items() if key not in kept},
            )
            whole = out.fingerprint == about["fingerprint"] and out.coef.shape == (len(out.names), out.features.width)
        except (OSError, ValueError, KeyError, TypeError, AttributeError, zipfile.BadZipFile) as error:
            raise InputError(
                f"{folder} holds a damaged judge ({error}): train it again (neva-tl train-judge)"
            ) from error
        if not whole:
            raise InputError(f"{folder}: the files of this judge were changed: train it again (neva-tl train-judge)")
        if out.features.encoder and out.features.encoder != encoder_hash():
            raise InputError(f"{folder} was trained on other sentence embeddings than those installed: train it again")
        return out

    def _repr_html_(self) -> str:
        facts = {"features": self.features.width, "penalty 1 /": self.info["strength"], **self.info["data"]}
        return card(self.name, facts, self.df)

    def show(self) -> Any:
        """F1 per category on the validation texts as a matplotlib figure."""
        from neva_tl.plots import interval_plot

        table = self.df.assign(est=lambda df: df["f1"], lo=np.nan, hi=np.nan)
        return interval_plot(table, title=f"{self.name} on validation texts", axis="F1")


def load(folder: str) -> Classifier:
    """The factory behind `classifier:PATH`."""
    return Classifier.load(folder)


def check_place(folder: Path) -> None:
    """Refuse a folder that holds something other than a judge, before minutes are spent on what would go there.

    Raises:
        InputError: a file, or a folder with other things in it.
    """
    if folder.is_file():
        raise InputError(f"{folder} is a file: name a folder for the judge")
    if folder.is_dir() and any(folder.iterdir()) and not (folder / "classifier.json").exists():
        raise InputError(f"{folder} is not empty and holds no judge: choose another folder")


def train(labelled: LabelledTexts, features: str = "both", *, seed: int = 0) -> Classifier:
    """Train on the split `train`; penalty (least log loss) and thresholds (best F1) by the split `validation`.

    Args:
        labelled: texts with their splits; the test texts are not looked at. Columns that lack a 0 or a 1 among the
            training labels are left out.
        features: tfidf, minilm or both.
        seed: of the solver.

    Raises:
        InputError: no train or validation texts, no column to learn, or a package is missing.
    """
    import sklearn

    for_training, for_choice = labelled.split("train"), labelled.split("validation")
    learnable = [k for k in range(len(labelled.names)) if {0.0, 1.0} <= set(for_training.labels[:, k].tolist())]
    if not learnable:
        raise InputError(f"{labelled.name}: no column has texts labelled 1 and texts labelled 0 in its training part")
    for k in learnable:
        value_of(labelled.names[k])
    fitted = Features.fit(for_training.texts, features)
    x, x_choice = fitted.matrix(for_training.texts), fitted.matrix(for_choice.texts)
    y, y_choice = for_training.labels[:, learnable], for_choice.labels[:, learnable]
    tried = []
    for strength in STRENGTHS:
        coef, intercept = _regressions(x, y, strength, seed)
        logits = np.asarray(x_choice @ coef.T.astype(float)) + intercept
        tried.append((_log_loss(logits, y_choice), strength, coef, intercept, logits))
    loss, strength, coef, intercept, logits = min(tried, key=lambda found: found[0])
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
            "hash": content_key(
                [[part.texts, finite(part.labels.tolist())] for part in (for_training, for_choice)],
                list(labelled.names),
            ),
        },
        # optimistic: these texts chose the thresholds
        "validation": {
            "log_loss": loss,
            "log_loss_tried": {str(found[1]): found[0] for found in tried},
            **{name: finite(x) for name, x in macro(table).items()},
            "categories": [
                {
                    "label": name,
                    "threshold": float(thresholds[k]),
                    **{measure: finite(found[k]) for measure, found in per_category.items()},
                }
                for k, name in enumerate(names)
            ],
        },
    }
    return Classifier(names, fitted, coef, intercept, thresholds, info)


def best_threshold(scores: Float[np.ndarray, " n"], labels: Float[np.ndarray, " n"]) -> float:
    """The score from which on a yes gives the best F1; .5 where no label is 1. Texts of unknown label do not count."""
    from sklearn.metrics import precision_recall_curve

    known = ~np.isnan(labels)
    if not (labels[known] == 1).any():
        return 0.5
    precision, recall, thresholds = precision_recall_curve(labels[known], scores[known])
    f1 = 2 * precision * recall / np.maximum(precision + recall, 1e-12)
    return float(thresholds[np.argmax(f1[:-1])])


def _regressions(x: Any, y: np.ndarray, strength: float, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Weights `[c, d]` (kept as float32, as they are saved) and intercepts `[c]`; rows of unknown label left out."""
    from sklearn.linear_model import LogisticRegression

    coef, intercept = [], []
    for column in y.T:
        known = np.flatnonzero(~np.isnan(column))
        model = LogisticRegression(C=strength, solver="liblinear", max_iter=1000, random_state=seed)
        model.fit(x[known], column[known].astype(int))
        coef.append(model.coef_[0].astype(np.float32))
        intercept.append(float(model.intercept_[0]))
    return np.stack(coef), np.array(intercept)


def _log_loss(logits: np.ndarray, labels: np.ndarray) -> float:
    """Mean over columns of the log loss on texts of known label."""
    from sklearn.metrics import log_loss

    found = []
    for k in range(labels.shape[1]):
        known = ~np.isnan(labels[:, k])
        if known.any():
            found.append(log_loss(labels[known, k], _expit(logits[known, k]), labels=[0.0, 1.0]))
    if not found:
        raise InputError("the validation texts carry no label of the columns that were trained")
    return float(np.mean(found))


def _expit(x: np.ndarray) -> np.ndarray:
    from scipy.special import expit

    return np.asarray(expit(x))


def _about(folder: Path) -> dict[str, Any]:
    """What stands in a judge's JSON file, once it is known to be one."""
    if not folder.is_dir():
        raise InputError(f"{folder} is no folder: make a judge there (neva-tl train-judge --out {folder})")
    file = folder / "classifier.json"
    if not file.exists():
        raise InputError(f"{folder} holds no judge (no classifier.json): make one with neva-tl train-judge")
    try:
        about = json.loads(file.read_text(encoding="utf-8"))
    except ValueError as error:
        raise InputError(f"{file} is not JSON ({error}): train the judge again (neva-tl train-judge)") from error
    if not isinstance(about, dict) or about.get("format") != FORMAT or about.get("schema") != 1:
        raise InputError(f"{file} is not a judge of this version of neva_tl: train it again (neva-tl train-judge)")
    return about
