"""The table of selectors, and `select`."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from neva_tl.activations import ActivationStats
from neva_tl.core.arguments import check_arguments
from neva_tl.core.auto import AUTO
from neva_tl.core.errors import InputError
from neva_tl.core.names import as_name
from neva_tl.core.neuron_set import NeuronSet, Site
from neva_tl.core.theories import ValueName
from neva_tl.models import Model
from neva_tl.selection.activation_probability import select_activation_probability
from neva_tl.selection.auto import check_evidence, decide
from neva_tl.selection.base import Request, check_request
from neva_tl.selection.causal import select_causal
from neva_tl.selection.effect_size import select_by_effect_size
from neva_tl.selection.lape import select_lape
from neva_tl.selection.margin import select_margin
from neva_tl.selection.mean_shift import select_mean_shift
from neva_tl.selection.neva import select_neva
from neva_tl.selection.pooled import POOLED, select_pooled
from neva_tl.selection.probe import select_probe
from neva_tl.selection.random_neurons import select_random
from neva_tl.selection.registry import SELECTORS, Selector, find_selector, run
from neva_tl.selection.regression import select_regression
from neva_tl.selection.shuffled import select_shuffled
from neva_tl.selection.write import select_write

_WITHOUT_FLIPS = {"flips": 0}

SELECTORS.update(
    {
        "effect_size": Selector(select_by_effect_size, quick=_WITHOUT_FLIPS),
        "neva": Selector(select_neva, needs_model=True, quick=_WITHOUT_FLIPS),
        "probe": Selector(select_probe, needs_samples=True, quick=_WITHOUT_FLIPS),
        "causal": Selector(select_causal, needs_model=True, quick=_WITHOUT_FLIPS),
        "margin": Selector(select_margin, needs_model=True, needs_texts=True, quick=_WITHOUT_FLIPS),
        "random": Selector(select_random, placebo=True, needs_model=True),
        "label_shuffled": Selector(select_shuffled, needs_samples=True, placebo=True),
        "activation_probability": Selector(select_activation_probability),
        "lape": Selector(select_lape),
        "mean_shift": Selector(select_mean_shift),
        "write": Selector(select_write, needs_model=True),
        "regression": Selector(select_regression, needs_samples=True),
    }
)


@check_arguments
def select(
    stats: ActivationStats | Mapping[str, ActivationStats],
    value: ValueName,
    *,
    method: str = AUTO,
    k: int | None = None,
    model: Model | None = None,
    alpha: float = 0.05,
    delta: float = 0.2,
    lam: float | None = None,
    require_split_half: bool = True,
    require_q: bool | None = None,
    layers: Iterable[int] | None = None,
    site: Site = "post",
    seed: int = 0,
    **options: Any,
) -> NeuronSet:
    """Select the neurons that carry a value.

    Args:
        stats: Activation statistics (`neva_tl.collect`), of the training split; or those of several sources, name -> statistics.
            Then neurons are ranked by the effect pooled over the sources as a random effect (method `pooled`, also for `auto`),
            and effects must have one sign in all of them (in place of `require_split_half`).
        value: One of the values that were collected.
        method: A name in `SELECTORS`, with the selector's own defaults; `auto` is the study's selector with the study's settings
            (`core.auto`): `neva` on demo models, `margin` on all others, both without the penalties for other values.
        k: Number of neurons to keep; None keeps all that pass, at most a thirtieth of the model (64 if that is more; 400 by
            `auto` on demo models).
        model: The model, where the method reads weights (`neva`, `causal`, `margin`, `write`, `random`); None takes the one that
            the statistics were collected on, if it is still in memory.
        alpha: False discovery rate of the screen.
        delta: Smallest effect of interest, in standard deviations.
        lam: Weight of specificity in the ranking; None is 1 (0 by `auto`, and on several sources).
        require_split_half: Keep only neurons whose effect has one sign in both halves of the folds.
        require_q: Keep only neurons with q <= alpha; None is True (False by `auto`, except on demo models).
        layers: Layers to select from; None is all.
        site: `post` or `gate`.
        seed: Seed of every random draw.
        options: The method's own options (see its function); they replace those of `auto`.

    Returns:
        The neurons, best first. When none passes, the set is empty and a warning gives the number of pairs that would be
        needed.

    Raises:
        InputError: The method, an option or the value is unknown, the value was not collected, k is larger than the model,
            activations are not finite, the statistics are of another model, or the selector of `auto` lacks the model or
            the texts.

    Example:
        >>> nv.select(stats, "power").method  # auto: what a study takes
        'neva'
        >>> neurons = nv.select(stats, "power", method="neva", model=model, k=20, lam_write=0.0)
        >>> neurons.value, neurons.method
        ('power', 'neva')
        >>> neurons.df[["layer", "neuron", "g", "q"]].shape
        (20, 4)
        >>> other = nv.collect(model, nv.prompts.load("demo", per_value=20), split="train")
        >>> both = nv.select({"all": stats, "few": other}, "power", k=20)
        >>> both.method, both.df[["g", "tau2", "q", "g_all", "g_few"]].shape
        ('pooled', (20, 5))
    """
    if isinstance(stats, Mapping):
        method = as_name("selection method for several sources", method, (AUTO, POOLED))
        return _select_pooled(
            stats,
            value,
            k,
            alpha=alpha,
            delta=delta,
            lam=lam,
            require_q=require_q,
            layers=layers,
            site=site,
            options=options,
        )
    method = as_name("selection method", method, (AUTO, *SELECTORS))
    of_layers = None if layers is None else tuple(int(layer) for layer in layers)
    if lam is not None:
        options["lam"] = lam
    if require_q is not None:
        options["require_q"] = require_q
    decision = None
    if method == AUTO:
        decision = decide(stats, of_layers)
        method, options = decision.method, {**decision.options, **options}
    if model is None and find_selector(method).needs_model:
        model = stats.model
    request = Request(
        value=value,
        k=decision.k if decision is not None and k is None else k,
        model=model,
        alpha=alpha,
        delta=delta,
        lam=options.pop("lam", 1.0),
        require_split_half=require_split_half,
        require_q=options.pop("require_q", True),
        layers=of_layers,
        site=site,
        seed=seed,
        options=options,
        k_requested=k is not None,
    )
    check_request(stats, request)
    if decision is not None:
        check_evidence(stats, method, model)
    return run(stats, request, method)


def _select_pooled(
    sources: Mapping[str, ActivationStats],
    value: str,
    k: int | None,
    *,
    lam: float | None,
    require_q: bool | None,
    layers: Iterable[int] | None,
    options: dict[str, Any],
    **settings: Any,
) -> NeuronSet:
    """Select on several sources; the arguments are those of `select`."""
    if options:
        raise InputError(f"method {POOLED} has no option {next(iter(options))!r}: it has none of its own")
    request = Request(
        value=value,
        k=k,
        lam=0.0 if lam is None else lam,
        require_q=True if require_q is None else require_q,
        layers=None if layers is None else tuple(int(layer) for layer in layers),
        k_requested=k is not None,
        **settings,
    )
    return select_pooled(sources, request)
