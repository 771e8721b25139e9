"""ConVA: its threshold, its probes and its rows."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pandas as pd
import pytest

from neva_tl.core.errors import InputError
from neva_tl.methods import Evidence, build, conva
from neva_tl.methods.conva import first_rows, usable_layers

pytestmark = pytest.mark.core


@pytest.mark.parametrize("p0", [0.0, 1.0, -0.2, 1.5, float("nan")])
def test_conva_refuses_a_p0_that_is_no_probability(evidence: Evidence, p0: float) -> None:
    with pytest.raises(InputError, match=r"inside \(0, 1\)|finite"):
        conva(evidence, "power", p0=p0)
    for method in ("conva", "caa_probe"):
        with pytest.raises(InputError, match=r"inside \(0, 1\)|finite"):
            build(method, evidence, "power").at(p0)  # type: ignore[attr-defined]
    assert conva(evidence, "power", p0=0.9).dose == pytest.approx(np.log(9))


def test_conva_says_when_no_layer_tells_the_poles_apart(evidence: Evidence) -> None:
    """Poles shuffled within clusters: held-out accuracy is chance, the best layer alone is used, in one warning line."""
    assert evidence.stats.samples is not None
    table = evidence.stats.samples.table.copy()
    swap = table["cluster"].isin([f"c{i}" for i in range(0, 8, 2)])
    table.loc[swap, "pole"] = table.loc[swap, "pole"].map({"+": "-", "-": "+"})
    noise = replace(evidence, stats=replace(evidence.stats, samples=replace(evidence.stats.samples, table=table)))
    with pytest.warns(RuntimeWarning, match="is used alone") as seen:
        item = conva(noise, "power")
    assert len(item.probes) == 1 and "\n" not in str(seen[0].message)


def test_conva_needs_two_clusters(evidence: Evidence) -> None:
    assert evidence.stats.samples is not None
    one = replace(evidence.stats.samples, table=evidence.stats.samples.table.assign(cluster="only"))
    with pytest.raises(InputError, match="at least two clusters"):
        conva(replace(evidence, stats=replace(evidence.stats, samples=one)), "power")


def test_first_rows_and_usable_layers() -> None:
    table = pd.DataFrame(
        {
            "value": ["power"] * 8 + ["security"] * 2,
            "pole": list("+-+-+-+-+-"),
            "pair_id": ["a", "a", "b", "b", "c", "c", "d", "d", "e", "e"],
        }
    )
    assert first_rows(table, "power", 2).tolist() == [0, 1, 2, 3]
    assert first_rows(table, "security", 100).tolist() == [8, 9]
    unpaired = table.assign(pair_id=None, pole=list("+++++---+-"))
    assert first_rows(unpaired, "power", 2).tolist() == [0, 1, 5, 6]
    assert usable_layers(30) == tuple(range(25)) and usable_layers(10) == tuple(range(5))
    assert usable_layers(9) == tuple(range(9)) and usable_layers(3) == (0, 1, 2)
