"""Statistics, margin effects and gates in the user's cache, shared by all commands, values, methods and gains."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from neva_tl import models
from neva_tl.activations import ActivationStats, token_hash
from neva_tl.attribution.margin import MarginEffects
from neva_tl.core.cache import content_key
from neva_tl.core.locks import lock_folder
from neva_tl.core.user_cache import entry_folder, prune
from neva_tl.core.versions import versions
from neva_tl.models import inference
from neva_tl.models.sources import label
from neva_tl.prompts import ContrastSet
from neva_tl.study.run import stages
from neva_tl.study.run.config import StudyConfig
from neva_tl.study.run.run_folder import RunFolder


@contextmanager
def evidence_folder(model: models.Model, pairs: ContrastSet, config: StudyConfig) -> Iterator[RunFolder]:
    """Open the cache entry of one model and one set of prompts, locked: a second process waits and finds the results.

    Its name is a hash of what determines the content: the model's fingerprint, rows and token ids of the prompts, pooling,
    chat template, gate, seed and the versions of the packages.

    Args:
        model: The loaded model.
        pairs: The contrast set.
        config: The resolved study.

    Yields:
        The entry.
    """
    fingerprint = models.fingerprint(model)
    template = inference.encoding_change(model, config.chat)
    tokens = token_hash(model, pairs, chat=config.chat)
    settings = [str(config.pooling), config.chat, config.gate, config.seed]
    identity = content_key(fingerprint, pairs.hash, tokens, settings, template, versions())
    about = {"study": identity, "model": {"name": models.info(model).name, **fingerprint}, "prompts": label(pairs.name)}
    folder = entry_folder("evidence", identity[:20])
    with lock_folder(folder, wait=True):
        store = RunFolder.open(folder, about)
        store.write_json("manifest.json", about)
        yield store


def cached_statistics(
    model: models.Model, pairs: ContrastSet, config: StudyConfig, *, progress: bool = False
) -> ActivationStats:
    """Return statistics with samples on the training split, read from the user's cache or collected into it.

    Args:
        model: The loaded model.
        pairs: The contrast set.
        config: The resolved study.
        progress: Show a bar on stderr.
    """
    with evidence_folder(model, pairs, config) as store:
        stats = stages.collected(store, model, pairs, config, progress)
    prune()
    return stats


def cached_margins(
    model: models.Model, pairs: ContrastSet, config: StudyConfig, stats: ActivationStats, *, progress: bool = False
) -> MarginEffects:
    """Return the margin effects of all neurons, read from the user's cache or measured into it.

    Args:
        model: The loaded model.
        pairs: The contrast set.
        config: The resolved study.
        stats: The result of `cached_statistics`.
        progress: Show a bar on stderr.
    """
    with evidence_folder(model, pairs, config) as store:
        return stages.margins(store, model, stats, config, progress)
