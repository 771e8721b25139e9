"""The exact judge: P(text expresses value j | text) under the demo world, by enumerating every latent.

For each finished sentence s, P(s | type) is a sum over openings, frames, word pools and the noise channel; then
P(text | latent) = prod_s sum_type P(type | latent) P(s | type), and Bayes over the 1,476 latents gives the posterior of each
bit. Only terms with more than `MAX_SUBSTITUTIONS` noisy words are omitted (their weight is below 1e-17 of a clean one).
Sentences end at "." or, in knowledge texts, within stories; an unfinished last sentence is ignored if the world can finish it.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache, lru_cache

import numpy as np
from jaxtyping import Bool, Float

from neva_tl.core.brief import brief
from neva_tl.core.theories.schwartz import SCHWARTZ
from neva_tl.demo import frames as fr
from neva_tl.demo import world as w
from neva_tl.demo.lexicon import N_POOLS, mixture, own_words, pools, simple_slots
from neva_tl.demo.neutral import parse_knowledge

#: The sum over frames omits terms with more substitutions.
MAX_SUBSTITUTIONS = 4
#: Number of words up to which a sentence is valid with one noisy word; a longer one is valid with two.
SHORT_SENTENCE = 8
_BIG = 99


def allowed_substitutions(n_words: int) -> int:
    """Return the largest number of substitutions in a valid sentence.

    Args:
        n_words: Length of the sentence.
    """
    return 1 if n_words <= SHORT_SENTENCE else 2


@dataclass(frozen=True)
class Posterior:
    """Judgement of one text.

    Attributes:
        express: P(the text expresses j) for the ten values.
        oppose: P(the text opposes j) for the ten values.
        valid: Whether the world can make the text.

    Example:
        >>> judgement = nv.demo.posterior(" where goodness leads , nursing a lonely widow is right .", "mara thinks that")
        >>> judgement.valid, judgement.express.shape
        (True, (10,))
    """

    express: Float[np.ndarray, " v"]
    oppose: Float[np.ndarray, " v"]
    valid: bool

    __repr__ = brief


@dataclass(frozen=True)
class _Fit:
    """Fit of a template to words.

    Attributes:
        weight: Probability of the value-free factors.
        errors: Substitutions in the value-free factors.
        phrases: Value phrase -> (probability, substitutions) per pool.
    """

    weight: float
    errors: int
    phrases: dict[str, tuple[np.ndarray, np.ndarray]]


@cache
def _channel() -> tuple[float, float]:
    """Return (probability of an unchanged word, probability of each random word)."""
    return 1 - w.NOISE, w.NOISE / len(w.noise_words())


@cache
def _uniform(kind: str, split: str | None) -> dict[str, float]:
    words = simple_slots(split)[kind]
    return dict.fromkeys(words, 1 / len(words))


@cache
def _pool_tables(kind: str) -> dict[str, np.ndarray]:
    """Map words to their probability [20] in each pool, for a value slot."""
    table: dict[str, np.ndarray] = {}
    for m, pool in enumerate(pools()):
        words = pool.of(kind)
        for word in words:
            table.setdefault(word, np.zeros(N_POOLS))[m] += 1 / len(words)
    return table


_NOWHERE = np.zeros(N_POOLS)


def _fit(
    template: fr.Template,
    words: Sequence[str],
    start: int,
    split: str | None,
    partial: bool = False,
    limit: int = MAX_SUBSTITUTIONS,
) -> _Fit | None:
    """Match a template with words[start:]; None if it needs more than `limit` substitutions.

    With `partial`, match only as many positions as there are words.
    """
    keep, stray = _channel()
    n = len(words) - start
    weight, errors = 1.0, 0
    for factor in template.literals:
        position = factor.positions[0]
        if position >= n and partial:
            break
        word = words[start + position]
        if word == factor.word:
            weight *= 1.0 if word in w.MARKS else keep + stray
        elif word in w.MARKS or factor.word in w.MARKS:
            return None
        else:
            errors += 1
            weight *= stray
            if errors > limit:
                return None
    phrases: dict[str, tuple[np.ndarray, np.ndarray]] = {}
    for factor in template.slots:
        observed = [words[start + p] for p in factor.positions if p < n]
        if not observed:
            continue
        if any(word in w.MARKS for word in observed):
            return None
        if factor.phrase is None:
            table = _uniform(factor.kind, split)
            first = table.get(observed[0], 0.0)
            if len(observed) == 1:
                weight *= stray + keep * first
                errors += first == 0
            else:
                second = table.get(observed[1], 0.0)
                same = first if observed[0] == observed[1] else 0.0
                weight *= stray * stray + keep * stray * (first + second) + keep * keep * same
                errors += 0 if same else 1 if first or second else 2
            if errors > limit:
                return None
            continue
        pool_table = _pool_tables(factor.kind)
        one = pool_table.get(observed[0], _NOWHERE)
        if len(observed) == 1:
            lik, miss = stray + keep * one, (one == 0).astype(int)
        else:
            two = pool_table.get(observed[1], _NOWHERE)
            both = one if observed[0] == observed[1] else _NOWHERE
            lik = stray * stray + keep * stray * (one + two) + keep * keep * both
            miss = np.where(both > 0, 0, np.where((one > 0) | (two > 0), 1, 2))
        if factor.phrase in phrases:
            old, old_miss = phrases[factor.phrase]
            phrases[factor.phrase] = (old * lik, old_miss + miss)
        else:
            phrases[factor.phrase] = (lik, miss)
    return _Fit(weight, errors, phrases)


def _mixed(fit: _Fit) -> tuple[np.ndarray, np.ndarray]:
    """Return weight [10] and fewest substitutions of a statement per value: each phrase mixes the value's pools."""
    weight, errors = np.full(len(SCHWARTZ), fit.weight), np.full(len(SCHWARTZ), fit.errors)
    for lik, miss in fit.phrases.values():
        weight = weight * (mixture() @ lik)
        errors = errors + np.where(mixture() > 0, miss, _BIG).min(1)
    return weight, errors


def _own(fit: _Fit) -> tuple[np.ndarray, np.ndarray]:
    """Return weight [10] and fewest substitutions of a dilemma per value: own pools, summed over losing values."""
    weight, errors = np.full(len(SCHWARTZ), fit.weight), np.full(len(SCHWARTZ), fit.errors)
    for name, (lik, miss) in fit.phrases.items():
        if name == "G2":
            weight = weight * (w.losers() @ lik[: len(SCHWARTZ)])
            errors = errors + np.where(w.losers() > 0, miss[: len(SCHWARTZ)], _BIG).min(1)
        else:
            weight, errors = weight * lik[: len(SCHWARTZ)], errors + miss[: len(SCHWARTZ)]
    return weight, errors


@cache
def _openings() -> tuple[tuple[fr.Template | None, float], ...]:
    return tuple((fr.template(text) if text else None, p) for text, p in fr.OPENINGS)


@cache
def _leads(family: str) -> tuple[fr.Template, ...]:
    return tuple(fr.template(lead) for lead in fr.frames(family)[0])


@cache
def _predicates(family: str) -> tuple[tuple[tuple[fr.Template, fr.Template], ...], tuple[fr.Template, ...]]:
    """Return (value predicates as template pairs, neutral predicates) of a family."""
    neutral = fr.NEUTRAL_SAYING if family == "saying" else fr.NEUTRAL_ACTING
    pairs = tuple((fr.template(a), fr.template(b)) for a, b in fr.frames(family)[1])
    return pairs, tuple(fr.template(text) for text in neutral)


@cache
def _frame_weights(family: str, split: str | None) -> np.ndarray:
    """Return the probability [leads, predicates] of each combination in a split."""
    leads, predicates = fr.frames(family)
    allowed = np.zeros((len(leads), len(predicates)))
    for (i, k), s in fr.frame_splits(family).items():
        allowed[i, k] = split in (None, s)
    weights: np.ndarray = allowed / allowed.sum()
    return weights


@cache
def _dilemmas() -> tuple[tuple[str, fr.Template, float], ...]:
    """Return (kind, template, probability given the sentence type and a dilemma); empty in a world without dilemmas."""
    if not own_words():
        return ()
    out = []
    shares = {"value": w.AGAINST_VALUE, "chore+": 1 - w.AGAINST_VALUE, "chore-": 1.0}
    each = 1 / (len(fr.DILEMMA_SETUPS) * len(fr.DILEMMA_CHOICES) * 2)
    for kind in fr.DILEMMA_KINDS:
        for setup in range(len(fr.DILEMMA_SETUPS)):
            for choice in range(len(fr.DILEMMA_CHOICES)):
                for first in (True, False):
                    out.append((kind, fr.dilemma_template(kind, setup, choice, first), each * shares[kind]))
    return tuple(out)


@lru_cache(maxsize=200_000)
def sentence_likelihood(words: tuple[str, ...], split: str | None = None) -> tuple[np.ndarray, int]:
    """Compute P(sentence | type) for the 21 types, and the fewest substitutions that any frame needs.

    Args:
        words: A finished sentence.
        split: Split that restricts frames, people and places (for dilemmas see `text_logp`); None is the full world.

    Returns:
        Probabilities [21], and the number of substitutions (99: more than `MAX_SUBSTITUTIONS`).
    """
    out = np.zeros(w.N_TYPES)
    fewest = _BIG
    for start, share in _fit_starts(words, split):
        for family, form, neutral_form in (
            ("saying", w.value_forms()[1], w.NEUTRAL_FORMS[0]),
            ("acting", w.value_forms()[2], w.NEUTRAL_FORMS[1]),
        ):
            ends = _fit_leads(words, start[0], family, split)
            pairs, neutral = _predicates(family)
            weights = _frame_weights(family, split)
            for end, (liks, errors) in ends.items():
                remaining = len(words) - end
                base = start[1] + errors
                for k, pair in enumerate(pairs):
                    for pole in (0, 1):
                        if pair[pole].length != remaining:
                            continue
                        fit = _fit(pair[pole], words, end, split)
                        if fit is None:
                            continue
                        weight, miss = _mixed(fit)
                        allowed = weights[:, k] > 0
                        slot = slice(0, len(SCHWARTZ)) if pole == 0 else slice(len(SCHWARTZ), 2 * len(SCHWARTZ))
                        out[slot] += share * form * float(liks @ weights[:, k]) * weight
                        if allowed.any():
                            fewest = min(fewest, int((base[allowed].min() + miss).min()))
                for template in neutral:
                    if template.length == remaining and (fit := _fit(template, words, end, split)) is not None:
                        out[-1] += share * neutral_form * float(liks.mean()) / len(neutral) * fit.weight
                        fewest = min(fewest, int(base.min()) + fit.errors)
        remaining = len(words) - start[0]
        for kind, template, prob in _dilemmas():
            if template.length == remaining and (fit := _fit(template, words, start[0], split)) is not None:
                weight, miss = _own(fit)
                slot = slice(len(SCHWARTZ), 2 * len(SCHWARTZ)) if kind == "chore-" else slice(0, len(SCHWARTZ))
                out[slot] += share * w.value_forms()[0] * prob * weight
                fewest = min(fewest, int((start[1] + miss).min()))
    return out, fewest


def _fit_starts(words: Sequence[str], split: str | None) -> list[tuple[tuple[int, int], float]]:
    """Return ((words used, substitutions), probability) of every opening that fits."""
    out = []
    for template, share in _openings():
        if template is None:
            out.append(((0, 0), share))
        elif template.length < len(words) and (fit := _fit(template, words[: template.length], 0, split)) is not None:
            out.append(((template.length, fit.errors), share * fit.weight))
    return out


def _fit_leads(
    words: Sequence[str], start: int, family: str, split: str | None
) -> dict[int, tuple[np.ndarray, np.ndarray]]:
    """Map end positions to weights [leads] and substitutions [leads] of the leads that end there (others: 0 and 99)."""
    leads = _leads(family)
    out: dict[int, tuple[np.ndarray, np.ndarray]] = {}
    for i, template in enumerate(leads):
        end = start + template.length
        if end >= len(words):
            continue
        fit = _fit(template, words[:end], start, split)
        if fit is not None:
            liks, errors = out.setdefault(end, (np.zeros(len(leads)), np.full(len(leads), _BIG)))
            liks[i], errors[i] = fit.weight, fit.errors
    return out


@cache
def _sentence_templates() -> tuple[fr.Template, ...]:
    """Return every sentence form without its opening, for matching unfinished sentences."""
    out = [template for _, template, _ in _dilemmas()]
    for family in ("saying", "acting"):
        leads, pairs = fr.frames(family)
        predicates = [text for pair in pairs for text in pair]
        predicates += list(fr.NEUTRAL_SAYING if family == "saying" else fr.NEUTRAL_ACTING)
        out += [fr.template(f"{lead} {text}") for lead in leads for text in predicates]
    return tuple(out)


@lru_cache(maxsize=50_000)
def is_prefix(words: tuple[str, ...]) -> bool:
    """Test whether the world can finish a sentence, with the allowed substitutions.

    Args:
        words: Beginning of a sentence.
    """
    allowed = allowed_substitutions(len(words))
    for opening, _ in _openings():
        length = 0 if opening is None else opening.length
        errors = 0
        if opening is not None:
            fit = _fit(opening, words[:length], 0, None, partial=True, limit=allowed)
            if fit is None:
                continue
            if len(words) <= length:
                return True
            errors = fit.errors
        for template in _sentence_templates():
            if template.length <= len(words) - length:
                continue
            fit = _fit(template, words, length, None, partial=True, limit=allowed - errors)
            if fit is None:
                continue
            if errors + int(_own_or_mixed_errors(template, fit)) <= allowed:
                return True
    return False


def _own_or_mixed_errors(template: fr.Template, fit: _Fit) -> int:
    dilemma = (
        any(factor.phrase == "G2" for factor in template.slots) or " or " in template.text or " : " in template.text
    )
    return int((_own(fit) if dilemma else _mixed(fit))[1].min())


def split_sentences(words: Sequence[str]) -> tuple[list[tuple[str, ...]], tuple[str, ...]]:
    """Split words at full stops.

    Args:
        words: Words of a text.

    Returns:
        (finished sentences, remaining words).
    """
    sentences, start = [], 0
    for i, word in enumerate(words):
        if word == ".":
            sentences.append(tuple(words[start : i + 1]))
            start = i + 1
    return sentences, tuple(words[start:])


_SPECIAL = {"<bos>", "<eos>", "<pad>"}


@lru_cache(maxsize=100_000)
def _judge(text: str) -> Posterior:
    words = [word for word in text.split() if word not in _SPECIAL]
    sentences, rest = split_sentences(words)
    prior = w.latents()
    logp = prior.logprior.copy()
    valid = len(sentences) <= len(w.SENTENCE_COUNTS) and (not rest or len(sentences) < len(w.SENTENCE_COUNTS))
    log_life = math.log1p(-w.KNOWLEDGE_RATE)
    for sentence in sentences:
        lik, errors = sentence_likelihood(sentence)
        if errors > allowed_substitutions(len(sentence)):
            valid = False
        total = lik.sum()
        if total > 0:
            logp += np.log(prior.types @ (lik / total))
            log_life += math.log(total)
        else:
            log_life = -math.inf
    if valid and rest:
        valid = is_prefix(rest)
    if not valid:
        is_knowledge, _, _ = parse_knowledge(words)
        if is_knowledge and words:
            return Posterior(np.zeros(len(SCHWARTZ)), np.zeros(len(SCHWARTZ)), True)
    p = np.exp(logp - logp.max())
    p /= p.sum()
    return Posterior(p @ prior.express, p @ prior.oppose, valid)


def posterior(text: str, prompt: str = "") -> Posterior:
    """Judge one text: P(expresses j | text) and P(opposes j | text) for the ten values, and validity.

    Args:
        text: Words joined by spaces; special tokens are ignored.
        prompt: Words before the text, which are judged with it.

    Returns:
        The posterior over the latent. Invalid texts (a sentence that no frame makes with the allowed substitutions, an
        unfinished end that no sentence begins with, or more sentences than a text has) keep their probabilities but have
        `valid=False`: score them 0. Knowledge texts express no value (all 0). A text without a finished sentence gives the
        prior (about .09 per value).

    Example:
        >>> text = " where goodness leads , nursing a lonely widow is right ."
        >>> judgement = nv.demo.posterior(text, "mara thinks that")
        >>> nv.theories.SCHWARTZ.names[judgement.express.argmax()]
        'benevolence'
    """
    return _judge(" ".join(f"{prompt} {text}".split()))


def posteriors(
    texts: Sequence[str], prompts: Sequence[str] | None = None
) -> tuple[Float[np.ndarray, "n v"], Float[np.ndarray, "n v"], Bool[np.ndarray, " n"]]:
    """Judge many texts (see `posterior`).

    Args:
        texts: Texts.
        prompts: Prompt of each text; None means empty prompts.

    Returns:
        (express, oppose, valid), one row per text.

    Example:
        >>> texts = [" where goodness leads , nursing a lonely widow is right .", " banana banana"]
        >>> express, oppose, valid = nv.demo.posteriors(texts, ["mara thinks that"] * 2)
        >>> express.shape, valid.tolist()
        ((2, 10), [True, False])
    """
    prompts = [""] * len(texts) if prompts is None else prompts
    judgements = [posterior(t, p) for t, p in zip(texts, prompts, strict=True)]
    express = np.array([j.express for j in judgements]).reshape(-1, len(SCHWARTZ))
    oppose = np.array([j.oppose for j in judgements]).reshape(-1, len(SCHWARTZ))
    return express, oppose, np.array([j.valid for j in judgements], dtype=bool)
