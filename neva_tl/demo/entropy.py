"""Probability of a text under the generator, the best that a language model of the world can reach."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np

from neva_tl.demo import world as w
from neva_tl.demo.lexicon import SHARES, SPLITS
from neva_tl.demo.neutral import parse_knowledge
from neva_tl.demo.posterior import sentence_likelihood, split_sentences


def text_logp(words: Sequence[str], split: str | None) -> float:
    """Compute log P(text) in nats, including the end of the text.

    Sums over latents, openings, frames, word pools and noise (without terms beyond four substitutions per sentence). Under a
    split, a dilemma's verb pair is drawn from the split's share of pairs (exact except for noise that turns one pair into
    another).

    Args:
        words: The words of a text.
        split: Split that restricts the world; None is the full world.

    Returns:
        The log-probability; -inf for a text that the generator cannot make.
    """
    is_knowledge, story, complete = parse_knowledge(words)
    if is_knowledge and complete and story > -math.inf:
        n_stories = 2 if _is_two(words) else 1
        return math.log(w.KNOWLEDGE_RATE) + math.log(w.STORY_COUNTS[n_stories - 1]) + story
    sentences, rest = split_sentences(words)
    if rest or not 1 <= len(sentences) <= len(w.SENTENCE_COUNTS):
        return -math.inf
    prior = w.latents()
    logp = prior.logprior.copy()
    extra = math.log1p(-w.KNOWLEDGE_RATE) + math.log(w.SENTENCE_COUNTS[len(sentences) - 1])
    for sentence in sentences:
        lik, _ = sentence_likelihood(sentence, split)
        if lik.sum() <= 0:
            return -math.inf
        extra += math.log(lik.sum())
        logp = logp + np.log(prior.types @ (lik / lik.sum()))
        if split is not None and ":" in sentence:
            extra -= math.log(SHARES[SPLITS.index(split)])
    return float(extra + np.logaddexp.reduce(logp))


def _is_two(words: Sequence[str]) -> bool:
    """Test whether a complete knowledge text has two stories, of which the first is a complete text by itself."""
    return any(
        parse_knowledge(words[:i])[2] and parse_knowledge(words[i:])[2]
        for i in range(1, len(words))
        if words[i - 1] == "."
    )
