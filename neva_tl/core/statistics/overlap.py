"""Overlap of two sets compared with random sets of the same sizes."""

from __future__ import annotations

from collections.abc import Set
from typing import NamedTuple

from scipy.stats import hypergeom

from neva_tl.core.arguments import check_arguments
from neva_tl.core.errors import InputError


class Overlap(NamedTuple):
    """Overlap of two sets.

    Attributes:
        size_a: Members of the first set.
        size_b: Members of the second set.
        shared: Members of both.
        jaccard: Jaccard index (size of the intersection over size of the union; 0 for two empty sets).
        expected: Number of shared members expected by chance (mean of the hypergeometric distribution).
        p_more: Probability of at least `shared` by chance.
        p_fewer: Probability of at most `shared` by chance.

    Example:
        >>> shared = nv.statistics.overlap({1, 2, 3}, {2, 3, 4}, total=100)
        >>> shared.jaccard, shared.expected, round(shared.expected_jaccard, 3)
        (0.5, 0.09, 0.015)
    """

    size_a: int
    size_b: int
    shared: int
    jaccard: float
    expected: float
    p_more: float
    p_fewer: float

    @property
    def expected_jaccard(self) -> float:
        """The Jaccard index of sets that share the expected number of members."""
        return self.expected / max(self.size_a + self.size_b - self.expected, 1)


@check_arguments
def overlap(a: Set[object], b: Set[object], total: int) -> Overlap:
    """Compare two subsets of one population.

    Args:
        a: First set.
        b: Second set.
        total: Size of the population.

    Raises:
        InputError: A set is larger than `total`.

    Example:
        >>> shared = nv.statistics.overlap({1, 2, 3}, {2, 3, 4}, total=100)
        >>> shared.shared, round(shared.p_more, 4)
        (2, 0.0018)
    """
    m, n, shared = len(a), len(b), len(a & b)
    if max(m, n) > total:
        raise InputError(f"a set of {max(m, n)} was chosen from only {total}")
    chance = hypergeom(total, m, n)
    jaccard, expected = shared / max(m + n - shared, 1), m * n / max(total, 1)
    return Overlap(m, n, shared, jaccard, expected, float(chance.sf(shared - 1)), float(chance.cdf(shared)))
