"""The generator's own probability of a text: what a perfect language model of the world would pay."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np

from neva_tl.demo import world as w
from neva_tl.demo.lexicon import SHARES, SPLITS
from neva_tl.demo.neutral import parse_knowledge
from neva_tl.demo.posterior import sentence_likelihood, split_sentences


def text_logp(words: Sequence[str], split: str | None) -> float:
    """log P(text) in nats under the world restricted to a split (None: the whole world), the end of the text included.

    Sums over latents, openings, frames, word pools and noise (terms beyond four substitutions a sentence left out). Under a
    split a dilemma's verb pair is one of its share of the pairs (exact but for noise that turns one pair into another).
    """
    known, story, complete = parse_knowledge(words)
    if known and complete and story > -math.inf:
        n_stories = 2 if _is_two(words) else 1
        return math.log(w.KNOWLEDGE_RATE) + math.log(w.STORY_COUNTS[n_stories - 1]) + story
    done, rest = split_sentences(words)
    if rest or not 1 <= len(done) <= len(w.SENTENCE_COUNTS):
        return -math.inf
    prior = w.latents()
    logp = prior.logprior.copy()
    extra = math.log1p(-w.KNOWLEDGE_RATE) + math.log(w.SENTENCE_COUNTS[len(done) - 1])
    for sentence in done:
        lik, _ = sentence_likelihood(sentence, split)
        if lik.sum() <= 0:
            return -math.inf
        extra += math.log(lik.sum())
        logp = logp + np.log(prior.types @ (lik / lik.sum()))
        if split is not None and ":" in sentence:
            extra -= math.log(SHARES[SPLITS.index(split)])
    return float(extra + np.logaddexp.reduce(logp))


def _is_two(words: Sequence[str]) -> bool:
    """Whether a complete knowledge text holds two stories: then some proper beginning of it is a complete story too."""
    return any(
        parse_knowledge(words[:i])[2] and parse_knowledge(words[i:])[2]
        for i in range(1, len(words))
        if words[i - 1] == "."
    )
