"""Residuals of single tokens, to train a sparse autoencoder on, and the trained one in the user's cache."""

from __future__ import annotations

import json
import re
from dataclasses import asdict
from functools import partial
from importlib.metadata import version
from itertools import takewhile

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from neva_tl import models
from neva_tl.core.cache import content_key
from neva_tl.core.errors import InputError
from neva_tl.core.files import atomic_write, to_json
from neva_tl.core.locks import lock_folder
from neva_tl.core.messages import detail, long_steps
from neva_tl.core.user_cache import entry_folder, prune
from neva_tl.methods.evidence import Evidence
from neva_tl.methods.sae_files import CONFIG, SparseAutoencoder
from neva_tl.methods.sae_training import SaeSettings, need_sparsify, quality, train
from neva_tl.methods.texts import need_samples
from neva_tl.models import inference
from neva_tl.models.hooks import record_hooks
from neva_tl.prompts import Example
from neva_tl.prompts.contrast import examples_of
from neva_tl.prompts.neutral import neutral_texts

#: Most tokens that an autoencoder is trained on; the texts are taken in random order.
MAX_TOKENS = 100_000
#: One text in so many is held out, to measure the variance explained.
HELD_OUT = 10
#: Quality of the trained autoencoder, beside its files.
CARD = "quality.json"
_WHY = "a sparse autoencoder"


def training_examples(evidence: Evidence) -> list[Example]:
    """The texts of an autoencoder: those of the training split, then the sentences of the package's neutral passages.

    The passages are those of the validation split: the test passages measure the cost of an edit. A demo model takes neutral
    texts of its own world.

    Args:
        evidence: Training data.

    Raises:
        InputError: The statistics hold no texts.
    """
    examples = list(dict.fromkeys(examples_of(need_samples(evidence, _WHY).table)))
    if not evidence.stats.demo:
        sentences = (x for text in neutral_texts("validation") for x in re.split(r"(?<=[.!?]) ", text))
        return [*examples, *(x for x in map(partial(Example, ""), sentences) if _fits(evidence, x))]
    from neva_tl import demo

    return [*examples, *(Example("", text) for text in demo.neutral_texts("train", 600))]


def token_residuals(
    evidence: Evidence, layer: int, *, seed: int = 0
) -> tuple[Float[Tensor, "n d"], Float[Tensor, "m d"]]:
    """`resid_post` of the tokens of the training texts, and of the held-out tenth of them.

    The tokens that all texts begin with (BOS, the opening of a chat template) are left out: their residuals are the same in
    every text, and those of the first token are of another size.

    Args:
        evidence: Training data.
        layer: The layer.
        seed: Seed of the order in which texts are taken up to `MAX_TOKENS`.

    Returns:
        Residuals to fit, and to measure.
    """
    model, examples = evidence.model, training_examples(evidence)
    encoded = inference.encode_one(model, examples, chat=evidence.chat)
    first, *others = (item.ids for item in encoded)
    common = max(1, min((_common(first, ids) for ids in others), default=1))
    order = np.random.default_rng(seed).permutation(len(encoded))
    lengths = np.array([max(0, len(item.ids) - common) for item in encoded])
    taken_rows = order[np.cumsum(lengths[order]) <= MAX_TOKENS]
    held_out = np.zeros(len(encoded), dtype=bool)
    held_out[taken_rows[::HELD_OUT]] = True
    name = models.hook_name(model, layer, "resid_post")
    parts: dict[bool, list[Tensor]] = {False: [], True: []}
    for rows, batch in inference.batches(model, [examples[i] for i in taken_rows], chat=evidence.chat):
        with record_hooks(model, [name], lambda x: x.detach().float().cpu()) as recorded:
            inference.forward_batch(model, batch, stop_at_layer=layer + 1, logits=False)
        for row, residuals, mask in zip(taken_rows[rows], recorded[name], batch.mask.cpu(), strict=True):
            parts[bool(held_out[row])].append(residuals[mask][common:])
    return torch.cat(parts[False]), torch.cat(parts[True])


def trained_sae(
    evidence: Evidence, layer: int, settings: SaeSettings | None = None, *, progress: bool = False
) -> SparseAutoencoder:
    """The autoencoder of a layer, trained once for a model, its texts and settings, and cached for the user.

    Args:
        evidence: Training data.
        layer: The layer.
        settings: Settings of the training; None takes the defaults.
        progress: Show bars on stderr at once.

    Raises:
        InputError: It is not in the cache, and `eai-sparsify` is not installed.
    """
    settings = settings or SaeSettings()
    key = content_key(_identity(evidence), layer, asdict(settings), MAX_TOKENS, HELD_OUT)
    folder = entry_folder("sae", key[:20])
    with lock_folder(folder, wait=True):
        if not (folder / CONFIG).is_file():
            need_sparsify()
            with long_steps(True):
                fit, measured = token_residuals(evidence, layer, seed=settings.seed)
                sae = train(fit, settings, progress=progress)
            facts = {"layer": layer, **asdict(settings), "eai-sparsify": version("eai-sparsify")}
            facts |= {"fit": asdict(quality(sae, fit)), "held out": asdict(quality(sae, measured))}
            with atomic_write(folder / CARD, recorded=False) as file:
                file.write_text(json.dumps(to_json(facts)), encoding="utf-8")
            sae.save(folder)
            detail(f"sparse autoencoder of layer {layer}: {facts['fit']} {facts['held out']}")
        loaded = SparseAutoencoder.load(folder)
    prune()
    return loaded


def _fits(evidence: Evidence, example: Example) -> bool:
    try:
        inference.encode_one(evidence.model, [example], chat=evidence.chat)
    except InputError:  # longer than the context
        return False
    return True


def _identity(evidence: Evidence) -> str:
    """What the residuals follow from: the model and the token ids of the texts."""
    examples = training_examples(evidence)
    texts = [[item.prompt, item.answer, item.separator, item.turns] for item in examples]
    encoding = inference.encoding_change(evidence.model, evidence.chat)
    return content_key(models.fingerprint(evidence.model), texts, evidence.chat, encoding)


def _common(a: tuple[int, ...], b: tuple[int, ...]) -> int:
    """Number of tokens that two texts begin with in common."""
    return sum(1 for _ in takewhile(lambda pair: pair[0] == pair[1], zip(a, b, strict=False)))
