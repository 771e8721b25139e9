"""Selector `causal`: effect-size screen, ranked by effect on the value's tokens.

    score_k = effect_k * (|g_t| - lam * max(0, leak))

`effect_k` is the attributed change of the value's token logits (half A of its word list), against the average token, when the
neuron moves from its - mean to its + mean: along the direct path (`attribution.direct`), or by all paths to first order
(`attribution.gradient`). A neuron that reads the value and writes something else has some effect on any token, positive half
the time. A second screen therefore tests whether the value's tokens gain more than random tokens do. Ours.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
import pandas as pd
from jaxtyping import Float
from scipy.stats import norm
from scipy.stats import t as student

from neva_tl import models
from neva_tl.activations import ActivationStats
from neva_tl.attribution.direct import direct_logits, readout
from neva_tl.attribution.gradient import gradient_effects
from neva_tl.attribution.outputs import scales_of, written
from neva_tl.attribution.tokens import value_tokens
from neva_tl.core.errors import InputError
from neva_tl.core.messages import progress_bar
from neva_tl.core.neuron_set import NeuronSet
from neva_tl.core.statistics import benjamini_hochberg
from neva_tl.core.theories import ValueTheory
from neva_tl.prompts.contrast import examples_of
from neva_tl.prompts.example import Example
from neva_tl.selection.base import Request, finish, need_model
from neva_tl.selection.effect_size import add_familywise, screen
from neva_tl.selection.write_scales import write_scales


def select_causal(
    stats: ActivationStats,
    request: Request,
    *,
    path: str = "direct",
    words: Mapping[str, Sequence[str]] | None = None,
    require_write: bool = True,
    texts: int = 64,
    draws: int = 20,
    flips: int = 1000,
) -> NeuronSet:
    """Neurons that pass the effect-size screen and raise the value's tokens.

    Both factors of the score must be above 0.

    Args:
        stats: Activation statistics; with path `gradient` they must have their texts.
        request: The request, with the model.
        path: `direct` (units: logits times the stream's own scale, see `readout`) or `gradient` (log-probability).
        words: Value -> words; by default half A of our lists. Tokens that two values claim are omitted.
        require_write: Keep only neurons whose effect on the value's tokens exceeds that on random tokens
            (Benjamini-Hochberg over the screened neurons, `q_write <= alpha`).
        texts: Number of texts for the gradient, drawn from the value's samples.
        draws: Number of random token sets for the gradient's `q_write`.
        flips: Number of sign flips for `p_fwe` (with samples); 0 omits it.

    Raises:
        InputError: The model is missing, the site is `gate`, the path is unknown, the value has no token of its own, or
            (gradient) the statistics have no texts.
    """
    if request.site != "post":
        raise InputError("method causal attributes through W_out, which reads site post: select at post")
    if path not in ("direct", "gradient"):
        raise InputError(f"unknown path {path!r}: direct or gradient")
    model = need_model(request, "method causal")
    tokens = own_tokens(model, stats.values, request.value, words, stats.theory)
    screened, counts = screen(stats, request)
    passed = screened.frame()
    candidates = _as_set(stats, request, passed)
    if path == "direct":
        effect, p = direct_effect(model, candidates, tokens, output_scales=write_scales(stats, model))
    else:
        examples = _texts(stats, request, texts)
        effect, p = gradient_effect(model, candidates, examples, tokens, draws=draws, seed=request.seed)
    ranked = passed.assign(effect=effect, q_write=benjamini_hochberg(p))
    ranked = ranked.assign(score=ranked["effect"] * ranked["specific"])
    ranked = ranked[(ranked["effect"] > 0) & (ranked["specific"] > 0)]
    counts["raises_tokens"] = len(ranked)
    if require_write:
        ranked = ranked[ranked["q_write"] <= request.alpha]
        counts["q_write"] = len(ranked)
    ranked = ranked.sort_values("score", ascending=False, kind="stable")
    ranked = add_familywise(stats, request, ranked, flips)
    return finish(stats, request, "causal", ranked.drop(columns=["value"]), counts)


def own_tokens(
    model: models.Model,
    values: Sequence[str],
    value: str,
    words: Mapping[str, Sequence[str]] | None = None,
    theory: ValueTheory | None = None,
) -> list[int]:
    """Ids of a value's tokens that no other value claims.

    Args:
        model: The model, for its tokenizer.
        values: All values.
        value: The value.
        words: Value -> words; None takes half A of our lists.
        theory: Theory of the values; None takes the one that their names imply.

    Raises:
        InputError: `words` lacks the value, none of its words gives a token, or other values claim all of its tokens.
    """
    if words is not None and value not in words:
        raise InputError(f"no words for {value}: give words={{'{value}': [...]}}")
    value_tokens(
        model, (value,), words, theory
    )  # raises where this value has no token; the others' words are not needed
    names = [name for name in values if words is None or name in words]
    table = value_tokens(model, names, words, theory, strict=False)
    unique = table[(table["value"] == value) & ~table["shared"]]
    if not len(unique):
        raise InputError(f"every token of {value} is claimed by another value too: give words= of its own")
    return [int(token) for token in unique["token"]]


def direct_effect(
    model: models.Model,
    neurons: NeuronSet,
    tokens: Sequence[int],
    *,
    output_scales: Sequence[float] | None = None,
) -> tuple[Float[np.ndarray, " n"], Float[np.ndarray, " n"]]:
    """Mean change of the tokens' logits by the direct path, with a p-value.

    The p-value is one-sided, against random tokens.

    Under the null the n tokens are a random draw without replacement from the V of the vocabulary:
    `z = effect / (s sqrt((V - n) / (n (V - 1))))`, s the spread of the neuron's effect over the vocabulary. Value words lie close
    together in real unembeddings, so z is large more often than under the null: use p as a screen, not as a claim.

    Args:
        model: The model.
        neurons: The neurons, with their means.
        tokens: Ids of the tokens.
        output_scales: See `direct_logits`.

    Returns:
        Effects (against the average token), and p (1 for a neuron that changes no logit).
    """
    if not len(neurons):
        return np.zeros(0), np.zeros(0)
    effect = direct_logits(model, neurons, tokens, output_scales=output_scales).mean(dim=1).double().cpu().numpy()
    read = readout(model).double()
    size, n = read.shape[1], len(tokens)
    second = (read @ read.T / size).cpu().numpy()
    spread = np.zeros(len(neurons))
    df, divisors = neurons.df, scales_of(model, output_scales)
    for layer in neurons.layers:
        in_layer = (df["layer"] == layer).to_numpy()
        index = df["neuron"].to_numpy()[in_layer]
        rows = written(model, layer).double().cpu().numpy()[index] / divisors[layer]
        spread[in_layer] = np.sqrt(np.maximum(0.0, np.einsum("kd,de,ke->k", rows, second, rows)))
    spread *= (df["mean_plus"] - df["mean_minus"]).abs().to_numpy()
    error = spread * np.sqrt((size - n) / (n * (size - 1)))
    z = np.divide(effect, error, out=np.zeros_like(effect), where=error > 0)
    return effect, np.where(error > 0, norm.sf(z), 1.0)


def gradient_effect(
    model: models.Model,
    neurons: NeuronSet,
    examples: Sequence[Example],
    tokens: Sequence[int],
    *,
    draws: int = 20,
    seed: int = 0,
) -> tuple[Float[np.ndarray, " n"], Float[np.ndarray, " n"]]:
    """First-order change of the tokens' mean logit, with a p-value.

    The change is measured against random tokens; the p-value is one-sided.

    As many tokens are drawn from the rest of the vocabulary, `draws` times. The effect is the tokens' own minus the draws' mean
    (the softmax's normaliser is in both and cancels); p is the probability that a new draw is as high, by
    `t = effect / (sd sqrt(1 + 1/draws))` with `draws - 1` degrees of freedom.

    Args:
        model: The model.
        neurons: The neurons, with their means.
        examples: Texts that the gradient is averaged over.
        tokens: Ids of the tokens.
        draws: Number of random token sets.
        seed: Seed of the draws.

    Returns:
        Effects, and p (1 for a neuron whose effect on the draws has no spread).

    Raises:
        InputError: There are fewer than two draws, or too few other tokens to draw from.
    """
    rest = np.setdiff1d(np.arange(models.info(model).d_vocab), list(tokens))
    if draws < 2 or len(rest) < len(tokens):
        raise InputError(
            f"{draws} draws of {len(tokens)} tokens from {len(rest)}: at least two draws and as many other tokens are needed"
        )
    if not len(neurons):
        return np.zeros(0), np.zeros(0)
    rng = np.random.default_rng(seed)
    on_tokens = gradient_effects(model, neurons, examples, list(tokens))
    sets = [rng.choice(rest, len(tokens), replace=False).tolist() for _ in range(draws)]
    null = np.stack(
        [gradient_effects(model, neurons, examples, drawn) for drawn in progress_bar(sets, desc="random tokens")]
    )
    effect = on_tokens - null.mean(axis=0)
    error = null.std(axis=0, ddof=1) * np.sqrt(1 + 1 / draws)
    t = np.divide(effect, error, out=np.zeros_like(effect), where=error > 0)
    return effect, np.where(error > 0, student.sf(t, draws - 1), 1.0)


def _as_set(stats: ActivationStats, request: Request, rows: pd.DataFrame) -> NeuronSet:
    return NeuronSet(
        value=request.value,
        method="causal",
        df=rows.drop(columns=["value"]).assign(score=0.0).reset_index(drop=True),
        n_layers=stats.model_layers,
        d_mlp=stats.d_mlp,
        fingerprint=stats.fingerprint,
    )


def _texts(stats: ActivationStats, request: Request, most: int) -> list[Example]:
    """At most `most` of the value's texts, of both poles."""
    table = stats.training_texts
    if table is None:
        raise InputError("path gradient runs the value's texts again: collect again, or pass stats.with_texts(pairs)")
    if most < 1:
        raise InputError(f"texts = {most}: the gradient needs at least one text")
    rows = np.flatnonzero((table["value"] == request.value).to_numpy())
    drawn = np.random.default_rng(request.seed).permutation(rows)[:most]
    return examples_of(table.iloc[np.sort(drawn)])
