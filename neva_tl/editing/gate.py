"""RelevanceGate: restrict an edit to tokens that express or precede a value (METHODS 5's second gate; per token, ours).

Per layer, a logistic probe on the full `hook_post` separates tokens at which the contrast is taken (both poles of every value)
from tokens of value-free text. An edit with a gate touches a token of its scope only where the probe of the edited layer has
`p > threshold`; other tokens stay equal bit for bit. The gate depends neither on the pole nor on a single value: it selects
positions, not directions, so that all methods can share one gate.
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

from neva_tl import models, prompts
from neva_tl.core.arguments import CheckedArguments, check_arguments
from neva_tl.core.auto import AUTO, auto_of
from neva_tl.core.cards import card
from neva_tl.core.errors import InputError
from neva_tl.core.files import DAMAGED, atomic_write, first_line
from neva_tl.core.ledger import check
from neva_tl.core.messages import progress_bar
from neva_tl.editing.constant import PerDevice
from neva_tl.editing.tokens import chosen_tokens, last_answer_token
from neva_tl.models import inference
from neva_tl.prompts import ContrastSet
from neva_tl.prompts.example import Example

_ARRAYS = ("layers", "weight", "bias", "caught", "passed")


@dataclass(frozen=True, eq=False)
class RelevanceGate(metaclass=CheckedArguments):
    """A probe per layer on `hook_post`; make it with `fit_relevance`.

    Attributes:
        layers: Layers with a probe.
        weight: `[l, k]` in raw activation units; probability = sigmoid(weight . h + bias).
        bias: `[l]`.
        threshold: A token is open where the probability is above it.
        unit: `token` decides at every token; `query` decides once, at the prompt's last token, for the full text.
        caught: `[l]` share of relevant training tokens that are open.
        passed: `[l]` share of neutral training tokens that are open.
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
            raise InputError(f"a gate decides per 'token' or per 'query', not {self.unit!r}")
        if not 0 < self.threshold < 1:
            raise InputError(f"a gate's threshold is a probability inside (0, 1), not {self.threshold}")
        shapes = [array.shape for array in (self.bias, self.caught, self.passed)]
        if self.weight.ndim != 2 or shapes != [self.weight.shape[:1]] * 3 or len(self.layers) != len(self.weight):
            raise InputError(
                f"a gate's arrays do not agree: {len(self.layers)} layers, weights {self.weight.shape}, others {shapes}"
            )

    @check_arguments
    def at(self, threshold: float) -> RelevanceGate:
        """The same gate with another threshold."""
        return replace(self, threshold=threshold)

    def per_query(self) -> RelevanceGate:
        """The same gate, decided once per text at the prompt's last token (as in ConVA)."""
        return replace(self, unit="query")

    @check_arguments
    def open(self, layer: int, h: Float[Tensor, "b n k"]) -> Bool[Tensor, "b n"]:
        """Mask of the open tokens.

        Args:
            layer: The layer.
            h: Its `hook_post`.

        Raises:
            InputError: The gate was not fitted at this layer, or on another width.
        """
        return self.at_layer(layer)(h)

    def at_layer(self, layer: int) -> Callable[[Float[Tensor, "b n k"]], Bool[Tensor, "b n"]]:
        """`open` of one layer, for many forward passes: its weights are copied to a device once.

        Args:
            layer: The layer.
        """
        row = self.layers.index(layer) if layer in self.layers else None
        stored = None if row is None else PerDevice(torch.as_tensor(self.weight[row], dtype=torch.float32))
        odds = float(np.log(self.threshold / (1 - self.threshold)))
        limit = odds if row is None else odds - float(self.bias[row])

        def opened(h: Tensor) -> Tensor:
            if stored is None or h.shape[-1] != self.weight.shape[1]:
                raise InputError(
                    f"this gate has probes at layers {list(self.layers)} of {self.weight.shape[1]} neurons: it cannot gate "
                    f"an edit at layer {layer} of {h.shape[-1]}; fit it on this model with that layer"
                )
            (weight,) = stored.on(h.device)
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

    @check_arguments
    def save(self, path: str | Path) -> Path:
        """Write the gate as one safetensors file.

        Args:
            path: The file.
        """
        path = Path(path)
        arrays = {name: np.asarray(getattr(self, name)) for name in _ARRAYS}
        flags = {"threshold": np.array([self.threshold]), "per_query": np.array([self.unit == "query"])}
        with atomic_write(path) as file:
            save_file({**arrays, **flags}, file)
        return path

    @classmethod
    @check_arguments
    def load(cls, path: str | Path) -> RelevanceGate:
        """Read a gate written by `save`.

        Args:
            path: The file.

        Raises:
            InputError: The file is missing, was changed since its run wrote it, or does not contain a gate.
        """
        if not Path(path).is_file():
            raise InputError(f"{path} does not exist: fit the gate again")
        check(Path(path))
        try:
            arrays = load_file(str(path))
        except (OSError, *DAMAGED) as error:
            raise InputError(
                f"{path} does not hold a relevance gate ({first_line(error)}): fit the gate again"
            ) from error
        if set(arrays) - {"per_query"} != {*_ARRAYS, "threshold"}:
            raise InputError(f"{path} does not hold a relevance gate")
        _check_arrays(arrays, path)
        layers = tuple(int(layer) for layer in arrays["layers"])
        rest = {name: arrays[name] for name in _ARRAYS if name != "layers"}
        unit: Literal["token", "query"] = "query" if bool(arrays.get("per_query", [False])[0]) else "token"
        try:
            return cls(layers, **rest, threshold=float(arrays["threshold"][0]), unit=unit)
        except InputError as error:
            raise InputError(f"{path}: {error}: fit the gate again") from error


def _check_arrays(arrays: dict[str, np.ndarray], path: str | Path) -> None:
    """Refuse arrays of other kinds than `RelevanceGate.save` writes, and weights that are not finite."""
    for name, array in arrays.items():
        kinds = {"layers": "iu", "per_query": "b"}.get(name, "f")
        if array.dtype.kind not in kinds or array.ndim != (2 if name == "weight" else 1) or not array.size:
            raise InputError(f"{path}: {name} of the gate is {array.dtype} {array.shape}: fit the gate again")
        if kinds == "f" and not np.isfinite(array).all():
            raise InputError(f"{path}: {name} of the gate is not finite: fit the gate again")
    layers = arrays["layers"].tolist()
    if len(set(layers)) != len(layers) or min(layers) < 0:
        raise InputError(f"{path}: the gate's layers are {layers}: fit the gate again")


@check_arguments
def fit_relevance(
    model: models.Model,
    relevant: Sequence[Example],
    neutral: Sequence[str],
    *,
    pooling: Literal["mean", "last", "auto"] = "auto",
    layers: Sequence[int] | None = None,
    threshold: float = 0.5,
    C: float = 0.05,
    most: int = 3000,
    chat: bool | None = None,
    seed: int = 0,
) -> RelevanceGate:
    """Fit a gate: L2 logistic probes, balanced, on standardised activations of single tokens.

    Args:
        model: A TransformerLens model.
        relevant: Training texts of both poles and all values; their answer tokens are the relevant ones.
        neutral: Value-free training texts; all of their tokens, BOS included, are irrelevant.
        pooling: As in `collect`: `mean` uses all answer tokens, `last` the last one; `auto` is `last` on demo models.
        layers: Layers at which edits will need the gate; None is every layer.
        threshold: Threshold of the gate.
        C: Inverse L2 strength, as in scikit-learn.
        most: Maximum tokens per class (drawn by the seed); memory is `2 * most * layers * d_mlp * 4` bytes.
        chat: Chat template for the relevant texts; neutral text is always plain.
        seed: Seed of the draw of tokens.

    Raises:
        InputError: No relevant or no neutral text or token, activations that are not finite, or a layer that the model
            lacks.
    """
    if not len(relevant) or not len(neutral):
        raise InputError("a relevance gate needs relevant and neutral texts: one of the two lists is empty")
    info = models.info(model)
    n_layers = info.n_layers
    which = auto_of(info.demo).pooling if pooling == AUTO else pooling
    at = tuple(range(n_layers)) if layers is None else tuple(sorted(set(layers)))
    if not at or not 0 <= at[0] <= at[-1] < n_layers:
        raise InputError(f"layers = {list(at)} is not possible: name layers from 0 to {n_layers - 1}, or leave it out")
    rng = np.random.default_rng(seed)
    yes = _tokens(model, relevant, at, which, chat, most, rng)
    no = _tokens(model, [Example("", text) for text in neutral], at, "all", False, most, rng)
    if not len(yes) or not len(no):
        kind = "neutral" if len(yes) else "relevant"
        raise InputError(f"a relevance gate needs tokens of both kinds, and the {kind} texts have none")
    if not (np.isfinite(yes).all() and np.isfinite(no).all()):
        raise InputError("a relevance gate cannot be fitted: activations are not finite; load the model in float32")
    label = np.r_[np.ones(len(yes), dtype=bool), np.zeros(len(no), dtype=bool)]
    weights, biases, caught, passed = [], [], [], []
    for row in range(len(at)):
        x = np.concatenate([yes[:, row], no[:, row]]).astype(np.float64)
        mu, sigma = x.mean(axis=0), np.maximum(x.std(axis=0), 1e-6)
        probe = LogisticRegression(C=C, class_weight="balanced", max_iter=2000).fit((x - mu) / sigma, label)
        weight = probe.coef_[0] / sigma
        bias = float(probe.intercept_[0] - weight @ mu)
        opened = x @ weight + bias > np.log(threshold / (1 - threshold))
        weights.append(weight.astype(np.float32))
        biases.append(bias)
        caught.append(opened[label].mean())
        passed.append(opened[~label].mean())
    return RelevanceGate(at, np.stack(weights), np.array(biases), np.array(caught), np.array(passed), threshold)


@check_arguments
def auto_gate(
    model: models.Model,
    pairs: ContrastSet | str,
    *,
    gate: Literal["auto", "relevance", "none"] = "auto",
    chat: bool | None = None,
    seed: int = 0,
) -> RelevanceGate | None:
    """Return the relevance gate that a study of a model and its prompts puts on every edit.

    The tokens at which the contrast is collected count as relevant, all tokens of neutral text as irrelevant
    (`prompts.gate_texts`).

    Args:
        model: A TransformerLens model.
        pairs: The contrast set, or an argument of `prompts.load`.
        gate: `relevance` fits one, `none` fits none; `auto` fits one on demo models, whose strict grammar breaks where an edit
            acts on a token that names no value.
        chat: Chat template for the relevant texts; None uses it where the tokenizer has one.
        seed: Seed of the draw of tokens.

    Returns:
        The gate, or None: `edit.with_gate(nv.auto_gate(model, pairs))` takes both.

    Raises:
        InputError: See `fit_relevance`.

    Example:
        >>> import neva_tl as nv
        >>> nv.auto_gate(nv.load("demo"), nv.prompts.load("demo", per_value=8)).unit
        'token'
    """
    if (auto_of(models.info(model).demo).gate if gate == AUTO else gate) == "none":
        return None
    relevant, neutral = prompts.gate_texts(pairs)
    return fit_relevance(model, relevant, neutral, chat=chat, seed=seed)


def _tokens(
    model: models.Model,
    examples: Sequence[Example],
    layers: tuple[int, ...],
    which: str,
    chat: bool | None,
    most: int,
    rng: np.random.Generator,
) -> Float[np.ndarray, "t l k"]:
    """`hook_post` of single tokens at some layers: of all tokens (`all`), of the answer (`mean`), or its last (`last`)."""
    if which == "last" and len(examples) > most:  # one token per text: the other texts need not be run
        examples = [examples[i] for i in np.sort(rng.permutation(len(examples))[:most])]
    plan, total = [], 0
    for _, batch in inference.batches(model, examples, chat=chat):
        selected = {"last": last_answer_token(batch), "all": batch.mask}.get(which, batch.answer)
        plan.append((batch, selected))
        total += int(selected.sum())
    chunks = []
    for batch, selected in progress_bar(plan, desc="gate", unit="batch"):
        if total > most:
            drawn = torch.from_numpy(rng.random(tuple(selected.shape)) < most / total).to(selected.device)
            selected = selected & drawn
        chunks.append(chosen_tokens(model, batch, selected, layers))
    return np.concatenate(chunks)
