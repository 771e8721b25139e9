"""How much two sets share, beside what two sets of those sizes drawn at random would."""

from __future__ import annotations

from collections.abc import Set
from typing import NamedTuple

from scipy.stats import hypergeom

from neva_tl.core.errors import InputError


class Overlap(NamedTuple):
    """Sizes, shared members, Jaccard index (shared / in either; 0 for two empty sets), shared members expected by chance
    (mean of the hypergeometric distribution) and its tails: at least, at most so many."""

    size_a: int
    size_b: int
    shared: int
    jaccard: float
    expected: float
    p_more: float
    p_fewer: float

    @property
    def expected_jaccard(self) -> float:
        """The index if as many were shared as chance gives on average."""
        return self.expected / max(self.size_a + self.size_b - self.expected, 1)


def overlap(a: Set[object], b: Set[object], total: int) -> Overlap:
    """Compare two sets.

    Args:
        a, b: the sets.
        total: members that either was chosen from.

    Raises:
        InputError: a set is larger than `total`.
    """
    m, n, shared = len(a), len(b), len(a & b)
    if max(m, n) > total:
        raise InputError(f"a set of {max(m, n)} was chosen from only {total}")
    chance = hypergeom(total, m, n)
    jaccard, expected = shared / max(m + n - shared, 1), m * n / max(total, 1)
    return Overlap(m, n, shared, jaccard, expected, float(chance.sf(shared - 1)), float(chance.cdf(shared)))
