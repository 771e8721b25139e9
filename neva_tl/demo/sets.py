"""Texts and questions for a study in the demo world: contrasts, open prompts, dilemmas, neutral texts."""

from __future__ import annotations

from functools import cache

import numpy as np
import pandas as pd

from neva_tl.core.errors import InputError
from neva_tl.core.theories.schwartz import SCHWARTZ
from neva_tl.demo import frames as fr
from neva_tl.demo import world as w
from neva_tl.demo.lexicon import (
    BORDER_RATE_VARIABLE,
    SPLITS,
    check_split,
    mixture,
    own_words,
    people,
    places,
    pools,
    simple_slots,
)
from neva_tl.demo.neutral import answer_index, answer_options, make_story

#: Forms of contrast pairs. `carried` (the default): one or two sentences that express the value, oppose it, express another
#: value, or express none, with the same leads; then the beginning of another speaker's sentence, up to the first value word.
#: That beginning is the answer span; at its last token the model is about to name a value. In the other forms the answer span
#: is the statement itself: the same content words for and against the value (`statement`), the value or a chore chosen
#: (`choice`), the value or another value chosen (`dilemma`), a value-free sentence in place of the value (`withheld`).
FORMS = ("carried", "statement", "choice", "dilemma", "withheld")
_COLUMNS = ["value", "pair_id", "pole", "text", "answer_start", "answer_end", "cluster", "split", "source", "form"]


def _rng(*key: object) -> np.random.Generator:
    """Create a random generator for one named purpose."""
    return np.random.default_rng([int(w.sha("|".join(map(str, key)))[:8], 16)])


def _need_dilemmas() -> None:
    if not own_words():
        raise InputError(
            "a world whose values have no words of their own has no dilemmas: use the forms carried, statement or "
            f"withheld, or set {BORDER_RATE_VARIABLE} below 0.5"
        )


def _content(rng: np.random.Generator, j: int, split: str, own_pool: bool = False) -> dict[str, str]:
    """Draw all fillers at once, so that both poles share them; `own_pool`: only the value's own words, if it has any."""
    own_pool = own_pool and own_words()
    simple = simple_slots(split)
    words = {kind: w.draw_item(rng, simple[kind]) for kind in sorted(simple)}
    chore = int(rng.integers(len(simple["XV"])))
    words["XV"], words["YV"] = simple["XV"][chore], simple["YV"][chore]
    pool = pools()[j if own_pool else w.draw_index(rng, mixture()[j])]
    verb = int(rng.integers(len(pool.verbs)))
    adjective, noun = w.draw_item(rng, pool.adjectives), w.draw_item(rng, pool.nouns)
    for phrase, kind in (("G1", "GV"), ("I1", "IV")):
        words |= {f"{kind}:{phrase}": pool.of(kind)[verb], f"A:{phrase}": adjective, f"B:{phrase}": noun}
    words["Z:Z"] = w.draw_item(rng, pools()[j if own_pool else w.draw_index(rng, mixture()[j])].goods)
    return words


def _with_second(words: dict[str, str], other: dict[str, str]) -> dict[str, str]:
    """Add the clause of `other` as G2."""
    return words | {f"{kind}:G2": other[f"{kind}:G1"] for kind in ("GV", "A", "B")}


def _statement(rng: np.random.Generator, j: int, split: str, frame: tuple[str, int, int]) -> tuple[list[str], str]:
    family, lead, predicate = frame
    leads, predicates = fr.frames(family)
    words = _content(rng, j, split)
    start = w.opening(rng, split)
    texts = []
    for pole in (0, 1):
        template = fr.template(f"{leads[lead]} {predicates[predicate][pole]}")
        texts.append(" ".join([*start, *w.fill(rng, template, {}, split, words)]))
    return texts, fr.frame_id(*frame)


def _withheld(rng: np.random.Generator, j: int, split: str, frame: tuple[str, int, int]) -> tuple[list[str], str]:
    family, lead, predicate = frame
    leads, predicates = fr.frames(family)
    words = _content(rng, j, split)
    start = w.opening(rng, split)
    neutral = w.draw_item(rng, fr.NEUTRAL_SAYING if family == "saying" else fr.NEUTRAL_ACTING)
    texts = []
    for text in (predicates[predicate][0], neutral):
        template = fr.template(f"{leads[lead]} {text}")
        # the poles share only the speaker: a neutral predicate may name two things of a kind
        fixed = words if text != neutral else {"N": words["N"]}
        texts.append(" ".join([*start, *w.fill(rng, template, {}, split, fixed)]))
    return texts, fr.frame_id(*frame)


def _carried(rng: np.random.Generator, j: int, split: str, frames: list[tuple[str, int, int]]) -> tuple[list[str], str]:
    """Draw texts of both poles that share their last words, from the second speaker's opening on.

    The - context opposes the value, expresses another value, or expresses none, in a third of the pairs each. (With other
    values alone the ten directions would sum to zero, and projecting out nine of them would leave nothing of the tenth.)
    """
    kind = ("opposes", "other", "neutral")[int(rng.integers(3))]
    k = int(rng.choice([other for other in range(len(SCHWARTZ)) if other != j]))
    frames = frames[: 1 + int(rng.integers(len(frames)))]
    beginning = _beginning(rng, split)
    texts = []
    for pole in "+-":
        if pole == "-" and kind == "neutral":
            sentences = [_neutral(rng, family, i, split) for family, i, _ in frames]
        else:
            v = k if pole == "-" and kind == "other" else j
            positive = pole == "+" or kind != "opposes"
            sentences = [w.make_statement(rng, v, positive, family, (i, p), split) for family, i, p in frames]
        texts.append(" ".join(" ".join(words) for words in [*sentences, [beginning]]))
    return texts, fr.frame_id(*frames[0])


@cache
def _combinations(split: str) -> tuple[tuple[str, int, int], ...]:
    """Return the (family, lead, predicate) combinations of a split."""
    return tuple(
        (family, i, k) for family in ("saying", "acting") for (i, k), s in fr.frame_splits(family).items() if s == split
    )


def _beginning(rng: np.random.Generator, split: str) -> str:
    """Draw a statement of a split, cut before its first value word ("nora dreams of")."""
    combos = _combinations(split)
    family, lead, predicate = combos[int(rng.integers(len(combos)))]
    leads, predicates = fr.frames(family)
    words = f"{leads[lead]} {predicates[predicate][0]}".split()
    cut = next(n for n, word in enumerate(words) if word in ("G", "I", "Z"))
    return " ".join([*w.opening(rng, split), *w.fill(rng, fr.template(" ".join(words[:cut])), {}, split, {})])


def value_beginnings(split: str, n: int = 1500) -> list[str]:
    """Draw beginnings of texts that end before a value word of any value: a relevance gate should open there.

    Args:
        split: Name of a split.
        n: Number of texts.

    Example:
        >>> nv.demo.value_beginnings("train", 2)
        ['without doubt tina dreams of', 'anton tells everyone that']
    """
    check_split(split)
    rng = _rng("beginnings", split)
    return [_beginning(rng, split) for _ in range(n)]


def _neutral(rng: np.random.Generator, family: str, lead: int, split: str) -> list[str]:
    """Draw a value-free sentence with a fixed lead."""
    predicate = w.draw_item(rng, fr.NEUTRAL_SAYING if family == "saying" else fr.NEUTRAL_ACTING)
    return w.fill(rng, fr.template(f"{fr.frames(family)[0][lead]} {predicate}"), {}, split, {})


def _lead(rng: np.random.Generator, split: str, name: str, acting: bool) -> str:
    """Draw the beginning of a sentence with an open continuation ("at the market , tom thinks that")."""
    openings = [text for text, _ in fr.OPENINGS]
    leads = fr.ACTING_LEADS if acting else fr.SAYING_LEADS
    # an acting lead may be only a name; an opening before it excludes a knowledge text
    start = openings[int(rng.integers(1 if acting else 0, len(openings)))]
    template = fr.template(f"{start} {leads[int(rng.integers(len(leads)))]}".strip())
    return " ".join(w.fill(rng, template, {}, split, {"N": name, "P": w.draw_item(rng, places(split))}))


def _against_chore(rng: np.random.Generator, j: int, split: str) -> tuple[list[str], str]:
    words = _content(rng, j, split, own_pool=True)
    allowed = [pair for pair, s in w.dilemma_splits(SCHWARTZ.names[j], "chore").items() if s == split]
    words["GV:G1"], words["XV"] = allowed[int(rng.integers(len(allowed)))]
    setup, choice = int(rng.integers(len(fr.DILEMMA_SETUPS))), int(rng.integers(len(fr.DILEMMA_CHOICES)))
    first = bool(rng.random() < 0.5)
    # the winner changes with the pole, the order of the options does not: hence `not first`
    plus = fr.dilemma_template("chore+", setup, choice, first)
    minus = fr.dilemma_template("chore-", setup, choice, not first)
    texts = [" ".join(w.fill(rng, template, {}, split, words)) for template in (plus, minus)]
    return texts, _cluster(words["GV:G1"], words["XV"])


def _cluster(a: str, b: str) -> str:
    return "dilemma-" + "-".join(sorted((a, b)))


def _verbs(rng: np.random.Generator, j: int, k: int, split: str) -> tuple[str, str]:
    while True:
        a, b = w.draw_item(rng, pools()[j].of("GV")), w.draw_item(rng, pools()[k].of("GV"))
        if w.dilemma_split(j, k, a, b) == split:
            return a, b


def _against_value(rng: np.random.Generator, j: int, split: str) -> tuple[list[str], str]:
    k = w.draw_index(rng, w.losers()[j])
    target, other = _content(rng, j, split, own_pool=True), _content(rng, k, split, own_pool=True)
    target["GV:G1"], other["GV:G1"] = _verbs(rng, j, k, split)
    other |= {kind: target[kind] for kind in ("N", "E")}
    setup, choice = int(rng.integers(len(fr.DILEMMA_SETUPS))), int(rng.integers(len(fr.DILEMMA_CHOICES)))
    first = bool(rng.random() < 0.5)
    plus = w.fill(rng, fr.dilemma_template("value", setup, choice, first), {}, split, _with_second(target, other))
    minus = w.fill(rng, fr.dilemma_template("value", setup, choice, not first), {}, split, _with_second(other, target))
    return [" ".join(plus), " ".join(minus)], _cluster(target["GV:G1"], other["GV:G1"])


def _answer_start(plus: str, minus: str, form: str) -> tuple[int, int]:
    """Find the start of the answer span in both texts: the first different word (`carried`: the start of the shared end)."""
    if form == "carried":
        shared = 0
        for a, b in zip(reversed(plus.split(" . ")), reversed(minus.split(" . ")), strict=False):
            if a != b:
                break
            shared += len(a) + (3 if shared else 0)
        return len(plus) - shared, len(minus) - shared
    offset = 0
    for a, b in zip(plus.split(), minus.split(), strict=False):
        if a != b:
            return offset, offset
        offset += len(a) + 1
    raise InputError("the two poles of a pair are the same text")


@cache
def contrast_rows(n_per_value: int = 400, forms: tuple[str, ...] = ("carried",)) -> pd.DataFrame:
    """Draw paired contrasts of the ten values.

    The result is cached: callers must not change it.

    Args:
        n_per_value: Pairs of each value, 50/20/30 in train, validation and test, which share no people, places, frames or
            dilemmas.
        forms: Forms of the pairs, in rotation (see `FORMS`).

    Returns:
        Columns value, pair_id, pole, text, answer_start, answer_end, cluster, split, source, form; two rows per pair. The
        cluster is the first frame, or the dilemma.

    Raises:
        InputError: Too few pairs, an unknown form, or dilemmas (`choice`, `dilemma`) in a world without them.

    Example:
        >>> int(nv.demo.contrast_rows(10)["value"].value_counts()["power"])  # ten pairs
        20
    """
    if n_per_value < 10:
        raise InputError(f"n_per_value must be at least 10, not {n_per_value}")
    unknown = [form for form in forms if form not in FORMS]
    if unknown or not forms:
        raise InputError(f"unknown form {unknown[:1]}: the demo's contrasts have the forms {', '.join(FORMS)}")
    if {"choice", "dilemma"} & set(forms):
        _need_dilemmas()
    counts = {"train": n_per_value // 2, "validation": n_per_value // 5}
    counts["test"] = n_per_value - sum(counts.values())
    rows = []
    for j, name in enumerate(SCHWARTZ.names):
        for split in SPLITS:
            rng = _rng("contrast", name, split)
            allowed = list(_combinations(split))
            rng.shuffle(allowed)
            used: set[str] = set()
            while len(used) < 2 * counts[split]:
                n = len(used) // 2
                form = forms[n % len(forms)]
                picked = [allowed[n % len(allowed)], allowed[int(rng.integers(len(allowed)))]]
                frames = [(str(family), int(i), int(k)) for family, i, k in picked]
                if form == "carried":
                    texts, cluster = _carried(rng, j, split, frames)
                elif form in ("statement", "withheld"):
                    texts, cluster = (_statement if form == "statement" else _withheld)(rng, j, split, frames[0])
                else:
                    texts, cluster = (_against_chore if form == "choice" else _against_value)(rng, j, split)
                if used & set(texts):
                    continue
                used |= set(texts)
                pair = f"{name}-{split}-{n:03d}"
                for pole, text, start in zip("+-", texts, _answer_start(texts[0], texts[1], form), strict=True):
                    rows.append((name, pair, pole, text, start, len(text), cluster, split, "demo", form))
    frame = pd.DataFrame(rows, columns=_COLUMNS)
    return frame.astype({"answer_start": "Int64", "answer_end": "Int64"})


def open_prompts(split: str, n: int | None = None) -> pd.DataFrame:
    """Draw beginnings that name no value and may continue with any ("at the market , tom thinks that").

    Args:
        split: Split of people and places.
        n: Number of prompts; None is 72 (validation: 48).

    Returns:
        Columns text, topic (the person), split. Two thirds end in a saying lead, one third in an acting one.

    Example:
        >>> nv.demo.open_prompts("test", 2)["text"].tolist()
        ['at the square , george often repeats that', 'greta tells everyone that']
    """
    check_split(split)
    n = (48 if split == "validation" else 72) if n is None else n
    rng = _rng("open", split)
    names = list(people(split))
    rng.shuffle(names)
    rows: list[tuple[str, str, str]] = []
    used: set[str] = set()
    while len(rows) < n:
        i = len(rows)
        name = names[i % len(names)]
        text = _lead(rng, split, name, acting=i % 3 == 2)
        if text not in used:
            used.add(text)
            rows.append((text, name, split))
    return pd.DataFrame(rows, columns=["text", "topic", "split"])


def dilemma_prompts(split: str) -> pd.DataFrame:
    """Draw open dilemmas of two values: every ordered pair of values once, alternating the value named first.

    Args:
        split: Name of a split.

    Returns:
        Columns value, against, text (ends in ":"), topic (the dilemma), split; 90 rows.

    Raises:
        InputError: Unknown split, or a world without dilemmas (a border rate of .5).

    Example:
        >>> nv.demo.dilemma_prompts("test")["text"].iloc[0]
        'kofi is torn between shaping this fresh blueprint and chasing this shaky canyon :'
    """
    check_split(split)
    _need_dilemmas()
    rng = _rng("dilemmas", split)
    rows = []
    for j in range(len(SCHWARTZ)):
        for k in range(len(SCHWARTZ)):
            if j == k:
                continue
            target, other = _content(rng, j, split, own_pool=True), _content(rng, k, split, own_pool=True)
            target["GV:G1"], other["GV:G1"] = _verbs(rng, j, k, split)
            setup = int(rng.integers(len(fr.DILEMMA_SETUPS)))
            template = fr.dilemma_template("value", setup, 0, (j + k + (j < k)) % 2 == 0)
            words = w.fill(rng, template, {}, split, _with_second(target, other))
            text = " ".join(words[: words.index(":") + 1])
            rows.append((SCHWARTZ.names[j], SCHWARTZ.names[k], text, _cluster(target["GV:G1"], other["GV:G1"]), split))
    return pd.DataFrame(rows, columns=["value", "against", "text", "topic", "split"])


def expressing_prompts(name: str, split: str, n: int = 40) -> pd.DataFrame:
    """Draw beginnings after which the unedited model mostly expresses a value, for ablation tests.

    Half name a clause of the value without a statement about it (form "topic": judge prompt and continuation); half
    are a sentence that expresses the value and the lead of another (form "context": judge only the second sentence).

    Args:
        name: Name of the value.
        split: Name of a split.
        n: Number of prompts.

    Returns:
        Columns text (the model's prompt), judged_prompt (the prompt for the judge), topic, split, form.

    Example:
        >>> nv.demo.expressing_prompts("power", "test", n=3)["text"].iloc[0]
        'ida writes that conquering a grand empire'
    """
    j = SCHWARTZ.index(name)
    check_split(split)
    rng = _rng("expressing", name, split)
    combos = {f: [c for c, s in fr.frame_splits(f).items() if s == split] for f in ("saying", "acting")}
    rows = []
    for i in range(n):
        words = _content(rng, j, split, own_pool=True)
        lead = fr.SAYING_LEADS[int(rng.integers(len(fr.SAYING_LEADS)))]
        start = w.opening(rng, split)
        if i % 2 == 0:
            text = " ".join([*start, *w.fill(rng, fr.template(f"{lead} G"), {}, split, words)])
            rows.append((text, text, words["N"], split, "topic"))
            continue
        family = "saying" if i % 4 == 1 else "acting"
        combo = combos[family][int(rng.integers(len(combos[family])))]
        first = w.make_statement(rng, j, True, family, combo, split)
        second = " ".join([*start, *w.fill(rng, fr.template(lead), {}, split, words)])
        rows.append((" ".join([*first, second]), second, words["N"], split, "context"))
    return pd.DataFrame(rows, columns=["text", "judged_prompt", "topic", "split", "form"])


def neutral_texts(split: str, n: int, seed: int = 0) -> list[str]:
    """Draw texts without value, noise or slip: stories and neutral sentences in turn.

    Args:
        split: Name of a split.
        n: Number of texts.
        seed: Seed of the random generator.

    Example:
        >>> nv.demo.neutral_texts("test", 2)[0].split(" . ")[0]
        'the table is black'
    """
    check_split(split)
    rng = _rng("neutral", split, seed)
    texts = []
    for i in range(n):
        if i % 2 == 0:
            words = make_story(rng)[1]
        else:
            count = 1 + int(rng.integers(3))
            words = [x for _ in range(count) for x in w.make_sentence(rng, w.N_TYPES - 1, split).words]
        texts.append(" ".join(words))
    return texts


def neutral_questions(split: str, n: int, seed: int = 0) -> pd.DataFrame:
    """Draw stories without their last words and four options each: the capability measure of the demo world.

    Args:
        split: Name of a split.
        n: Number of questions.
        seed: Seed of the random generator.

    Returns:
        Columns prompt, options (list of four words), answer (index of the right one), kind.

    Example:
        >>> nv.demo.neutral_questions("test", 2).columns.tolist()
        ['prompt', 'options', 'answer', 'kind']
    """
    check_split(split)
    rng = _rng("questions", split, seed)
    rows = []
    for _ in range(n):
        kind, words = make_story(rng)
        cut = answer_index(kind)
        options = answer_options(kind, words, rng)
        rows.append((" ".join(words[:cut]), options, options.index(words[cut]), kind))
    return pd.DataFrame(rows, columns=["prompt", "options", "answer", "kind"])
