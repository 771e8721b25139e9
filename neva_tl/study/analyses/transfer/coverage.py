"""Values and rows that a transfer study takes from each source."""

from __future__ import annotations

from collections.abc import Mapping

from neva_tl.core.errors import InputError
from neva_tl.core.theories import theory_of
from neva_tl.prompts import ContrastSet
from neva_tl.study.analyses.transfer.config import TransferConfig
from neva_tl.study.run import stages


def covered(sets: Mapping[str, ContrastSet], config: TransferConfig) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """Return the steered and the measured values, in the order of their theory.

    A source needs not cover all of them.

    Args:
        sets: Source -> its contrast set.
        config: Settings; steered values are always measured.

    Raises:
        InputError: Fewer than two sources cover a steered value, no source covers a measured one, or a source covers no
            steered value.
    """
    theory = theory_of([name for pairs in sets.values() for name in pairs.theory.names])
    count = {name: sum(name in pairs.values for pairs in sets.values()) for name in theory.names}
    common = [name for name in theory.names if count[name] == len(sets)]
    # the whole theory means all values that the sources cover
    full = not config.values or set(config.values) == set(theory.names)
    steered = common or [name for name in theory.names if count[name] > 1] if full else theory.in_order(config.values)
    for name in steered:
        if count.get(name, 0) < 2:
            lacking = next(source for source, pairs in sets.items() if name not in pairs.values)
            raise InputError(
                f"{lacking} has no prompts for {name}: all sources cover {', '.join(common) or 'none'}, and a value needs "
                "two sources or more"
            )
    if not steered:
        raise InputError("the sources have no value in common")
    measured = theory.in_order((*(common if config.measured is None else config.measured), *steered))
    for name in measured:
        if not count.get(name, 0):
            raise InputError(f"no source has prompts for {name}: all sources cover {', '.join(common) or 'none'}")
    for source, pairs in sets.items():
        if not set(steered) & set(pairs.values):
            raise InputError(f"{source} has no prompts for {', '.join(steered)}: it covers {', '.join(pairs.values)}")
    return tuple(steered), tuple(measured)


def limited(pairs: ContrastSet, config: TransferConfig) -> ContrastSet:
    """Limit each split to the number of rows in the settings, by hash rank.

    Args:
        pairs: The contrast set.
        config: Settings.
    """
    for split, most in (("train", config.rows), ("validation", config.validation), ("test", config.items)):
        pairs = stages.limit_rows(pairs, most, split)
    return pairs
