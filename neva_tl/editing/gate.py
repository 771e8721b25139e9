"""RelevanceGate: let an edit act only on tokens that have to do with values (METHODS 5's second gate; per token, ours).

Per layer, a logistic probe on all of the layer's `hook_post` tells tokens at which the contrast is taken (both poles, every
value: where something of value is said or about to be said) from tokens of value-free text. An edit with a gate touches a
token of its scope only where the probe of the edited layer says `p > threshold`; the others pass untouched, bit for bit.
The gate knows no pole and no single value: it says where, never what, so that every method can carry the same one.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal

import numpy as np
import pandas as pd
import torch
from jaxtyping import Bool, Float
from safetensors.numpy import load_file, save_file
from sklearn.linear_model import LogisticRegression
from torch import Tensor

from neva_tl import models
from neva_tl.core.cards import card
from neva_tl.core.errors import InputError
from neva_tl.core.files import whole_file
from neva_tl.editing.constant import PerDevice
from neva_tl.editing.tokens import chosen_tokens, last_answer_token
from neva_tl.models import inference
from neva_tl.prompts.example import Example

_ARRAYS = ("layers", "weight", "bias", "caught", "passed")


@dataclass(frozen=True, eq=False)
class RelevanceGate:
    """A probe per layer on `hook_post`; make it with `fit_relevance`.

    Attributes:
        layers: the layers it knows.
        weight, bias: `[l, k]`, `[l]`, in raw activation units; probability = sigmoid(weight . h + bias).
        threshold: a token is open where the probability is above it.
        unit: `token` asks every token; `query` asks the prompt's last token once, and opens or shuts the whole text.
        caught, passed: `[l]` share of relevant and of neutral training tokens that are open.
    """

    layers: tuple[int, ...]
    weight: Float[np.ndarray, "l k"]
    bias: Float[np.ndarray, " l"]
    caught: Float[np.ndarray, " l"]
    passed: Float[np.ndarray, " l"]
    threshold: float = 0.5
    unit: Literal["token", "query"] = "token"

    def __post_init__(self) -> None:
        if self.unit not in ("token", "query"):
            raise InputError(f"a gate asks each token or once per query, not {self.unit!r}")
        if not 0 < self.threshold < 1:
            raise InputError(f"a gate's threshold is a probability inside (0, 1), not {self.threshold}")

    def at(self, threshold: float) -> RelevanceGate:
        """The same gate with another threshold."""
        return replace(self, threshold=threshold)

    def per_query(self) -> RelevanceGate:
        """The same gate, asked once per text at the prompt's last token (ConVA's way)."""
        return replace(self, unit="query")

    def open(self, layer: int, h: Float[Tensor, "b n k"]) -> Bool[Tensor, "b n"]:
        """Which tokens are open, from a layer's `hook_post`.

        Raises:
            InputError: the gate was not fitted at this layer, or on another width.
        """
        return self.at_layer(layer)(h)

    def at_layer(self, layer: int) -> Callable[[Float[Tensor, "b n k"]], Bool[Tensor, "b n"]]:
        """`open` of one layer, for many forward passes: its weights are copied to a device once."""
        row = self.layers.index(layer) if layer in self.layers else None
        ready = None if row is None else PerDevice(torch.as_tensor(self.weight[row], dtype=torch.float32))
        odds = float(np.log(self.threshold / (1 - self.threshold)))
        limit = odds if row is None else odds - float(self.bias[row])

        def opened(h: Tensor) -> Tensor:
            if ready is None or h.shape[-1] != self.weight.shape[1]:
                raise InputError(
                    f"this gate knows layers {list(self.layers)} of {self.weight.shape[1]} neurons: it cannot gate an edit "
                    f"at layer {layer} of {h.shape[-1]}; fit it on this model with that layer"
                )
            (weight,) = ready.on(h.device)
            return h.float() @ weight > limit

        return opened

    def table(self) -> pd.DataFrame:
        """One row per layer: layer, caught, passed."""
        return pd.DataFrame({"layer": self.layers, "caught": self.caught, "passed": self.passed})

    def _repr_html_(self) -> str:
        note = "caught: share of training tokens where values are at stake that are open; passed: of neutral text's"
        facts = {
            "threshold": self.threshold,
            "layers": len(self.layers),
            "neurons of a layer": int(self.weight.shape[1]),
        }
        return card("Relevance gate", facts, self.table(), note=note)

    def show(self) -> Any:
        """Share of open tokens per layer as a matplotlib figure."""
        from neva_tl.plots import gate_profile

        return gate_profile(self.table(), title=f"Relevance gate at p > {self.threshold:g}")

    def save(self, path: str | Path) -> Path:
        """Write the gate as one safetensors file."""
        path = Path(path)
        arrays = {name: np.asarray(getattr(self, name)) for name in _ARRAYS}
        flags = {"threshold": np.array([self.threshold]), "per_query": np.array([self.unit == "query"])}
        with whole_file(path) as file:
            save_file({**arrays, **flags}, file)
        return path

    @classmethod
    def load(cls, path: str | Path) -> RelevanceGate:
        """Read a gate written by `save`.

        Raises:
            InputError: the file is missing or holds something else.
        """
        if not Path(path).exists():
            raise InputError(f"{path} does not exist: fit the gate again")
        arrays = load_file(str(path))
        if set(arrays) - {"per_query"} != {*_ARRAYS, "threshold"}:
            raise InputError(f"{path} does not hold a relevance gate")
        layers = tuple(int(layer) for layer in arrays["layers"])
        rest = {name: arrays[name] for name in _ARRAYS if name != "layers"}
        unit: Literal["token", "query"] = "query" if bool(arrays.get("per_query", [False])[0]) else "token"
        return cls(layers, **rest, threshold=float(arrays["threshold"][0]), unit=unit)


def fit_relevance(
    model: models.Model,
    relevant: Sequence[Example],
    neutral: Sequence[str],
    *,
    pooling: Literal["mean", "last"] = "last",
    layers: Sequence[int] | None = None,
    threshold: float = 0.5,
    C: float = 0.05,
    most: int = 3000,
    chat: bool | None = None,
    seed: int = 0,
) -> RelevanceGate:
    """Fit a gate: L2 logistic probes, balanced, on standardised activations of single tokens.

    Args:
        model: a TransformerLens model.
        relevant: training texts of both poles and all values; their answer tokens are the relevant ones (`pooling` as in
            `collect`: all of them with `mean`, the last with `last`).
        neutral: value-free training texts; every token of theirs, BOS included, is an irrelevant one.
        layers: where edits will need the gate; None is every layer.
        threshold: of the gate.
        C: inverse L2 strength (scikit-learn's).
        most: tokens of each class that are kept (drawn by the seed), so that memory is `2 * most * layers * d_mlp * 4` bytes.
        chat: of the relevant texts; neutral text is always plain.
        seed: of that draw.

    Raises:
        InputError: no relevant or no neutral text, or a layer the model lacks.
    """
    if not len(relevant) or not len(neutral):
        raise InputError("a relevance gate needs relevant and neutral texts: one of the two lists is empty")
    at = tuple(range(models.info(model).n_layers)) if layers is None else tuple(sorted(set(layers)))
    rng = np.random.default_rng(seed)
    yes = _tokens(model, relevant, at, pooling, chat, most, rng)
    no = _tokens(model, [Example("", text) for text in neutral], at, "all", False, most, rng)
    label = np.r_[np.ones(len(yes), dtype=bool), np.zeros(len(no), dtype=bool)]
    weights, biases, caught, passed = [], [], [], []
    for place in range(len(at)):
        x = np.concatenate([yes[:, place], no[:, place]]).astype(np.float64)
        mu, sigma = x.mean(axis=0), np.maximum(x.std(axis=0), 1e-6)
        probe = LogisticRegression(C=C, class_weight="balanced", max_iter=2000).fit((x - mu) / sigma, label)
        weight = probe.coef_[0] / sigma
        bias = float(probe.intercept_[0] - weight @ mu)
        said = x @ weight + bias > np.log(threshold / (1 - threshold))
        weights.append(weight.astype(np.float32))
        biases.append(bias)
        caught.append(said[label].mean())
        passed.append(said[~label].mean())
    return RelevanceGate(at, np.stack(weights), np.array(biases), np.array(caught), np.array(passed), threshold)


def _tokens(
    model: models.Model,
    examples: Sequence[Example],
    layers: tuple[int, ...],
    which: str,
    chat: bool | None,
    most: int,
    rng: np.random.Generator,
) -> Float[np.ndarray, "t l k"]:
    """`hook_post` of single tokens at some layers: `all`, the answer's (`mean`), or the answer's last (`last`)."""
    if which == "last" and len(examples) > most:  # one token a text: the others need not be run
        examples = [examples[i] for i in np.sort(rng.permutation(len(examples))[:most])]
    plan, total = [], 0
    for _, batch in inference.batches(model, examples, chat=chat):
        chosen = {"last": last_answer_token(batch), "all": batch.mask}.get(which, batch.answer)
        plan.append((batch, chosen))
        total += int(chosen.sum())
    parts = []
    for batch, chosen in plan:
        if total > most:
            kept = torch.from_numpy(rng.random(tuple(chosen.shape)) < most / total).to(chosen.device)
            chosen = chosen & kept
        parts.append(chosen_tokens(model, batch, chosen, layers))
    return np.concatenate(parts)
