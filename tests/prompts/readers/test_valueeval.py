"""ValueEval arguments, whole, broken, and the real set where it is at hand."""

from __future__ import annotations

import csv
import json
from pathlib import Path

import pandas as pd
import pytest

from helpers.text_lines import write
from neva_tl import prompts
from neva_tl.core.errors import InputError
from neva_tl.core.theories import SCHWARTZ20
from neva_tl.core.theories.schwartz20 import NAME_OF_CATEGORY
from neva_tl.core.values import VALUES
from neva_tl.prompts.readers import valueeval


def write_valueeval(folder: Path, arguments: list[tuple[str, ...]], labels: dict[str, set[str]]) -> str:
    names = list(valueeval.CATEGORIES)
    write(
        folder / "arguments-training.tsv",
        "Argument ID\tConclusion\tStance\tPremise",
        *("\t".join(argument) for argument in arguments),
    )
    write(
        folder / "labels-training.tsv",
        "\t".join(["Argument ID", *names]),
        *("\t".join([i, *(str(int(name in found)) for name in names)]) for i, found in labels.items()),
    )
    return f"valueeval:{folder}"


def test_valueeval_balances_presence_and_absence_within_conclusions(tmp_path: Path) -> None:
    arguments, labels = [], {}
    for conclusion in ("We should ban cars", "Zoos are needed"):
        for i in range(5):
            identity = f"{conclusion[0]}{i}"
            arguments.append(
                (identity, conclusion, ("in favor of", "against")[i % 2], f'premise {identity} with "quotes')
            )
            labels[identity] = {"Hedonism"} if i < 2 else {"Face"} if i < 3 else {"Power: dominance", "Humility"}
    found = prompts.load(write_valueeval(tmp_path, arguments, labels))
    assert found.values == ("hedonism", "power", "tradition")
    counts = found.df.groupby(["value", "cluster", "pole"]).size().unstack()
    assert (counts == 2).all().all()
    hedonism = found.df[found.df["value"] == "hedonism"]
    told = {i for i in labels if any(f"premise {i} " in text for text in hedonism.loc[hedonism["pole"] == "+", "text"])}
    assert told == {"W0", "W1", "Z0", "Z1"}
    assert found.df["source"].str.contains("presence against absence").all() and found.df["pair_id"].isna().all()
    example = next(e for e in found.for_value("hedonism").examples() if "W1" in e.answer)
    assert example == prompts.Example(
        "An argument against the claim that we should ban cars:", 'premise W1 with "quotes'
    )


def test_valueeval_says_what_it_does_not_read(tmp_path: Path) -> None:
    """A repeated argument, one whose conclusion has no counterpart, and a file without labels."""
    arguments = [(f"A{i}", "We should ban cars", "against", f"premise {i}") for i in range(6)]
    arguments += [("A6", "We should ban cars", "against", "premise 0"), ("B0", "Zoos are needed", "against", "alone")]
    labels = {identity: {"Hedonism"} if identity in ("A0", "A1", "A2", "A6") else set() for identity, *_ in arguments}
    spec = write_valueeval(tmp_path, arguments, labels)
    write(tmp_path / "arguments-extra.tsv", "Argument ID\tConclusion\tStance\tPremise")
    found = prompts.load(spec)
    assert len(found) == 6
    assert found.note == (
        "7 arguments; + is presence of the value, - its absence in an argument on the same conclusion. "
        "1 of 8 arguments left out: repeated ones. "
        "1 of 8 arguments left out: no argument on the same conclusion has the opposite label of any value. "
        "Not read, because there is no file of labels for it: arguments-extra.tsv."
    )


@pytest.mark.parametrize(
    ("argument", "labels", "message"),
    [
        (("A1", "c", "in favor of", "p"), {}, "A1 has no line in labels-training.tsv|header and no rows"),
        (("A1", "c", "beside", "p"), {"A1": {"Face"}}, r"line 2: stance is 'beside'"),
        (("A1", "c", "against"), {"A1": {"Face"}}, r"line 2: 3 fields where the header has 4"),
    ],
)
def test_valueeval_broken(tmp_path: Path, argument: tuple[str, ...], labels: dict[str, set[str]], message: str) -> None:
    with pytest.raises(InputError, match=message):
        prompts.load(write_valueeval(tmp_path, [argument], labels))


def test_valueeval_label_that_is_no_bit(tmp_path: Path) -> None:
    spec = write_valueeval(tmp_path, [("A1", "c", "against", "p")], {"A1": set()})
    file = tmp_path / "labels-training.tsv"
    file.write_text(file.read_text().replace("A1\t0", "A1\t2"))
    with pytest.raises(InputError, match=r"labels-training\.tsv, line 2: Self-direction: thought is '2'"):
        prompts.load(spec)


def test_valueeval_on_the_real_set(shared_dir: Path) -> None:
    folder = shared_dir / "data" / "valueeval"
    upstream = json.loads((folder / "value-categories.json").read_text())
    assert set(valueeval.CATEGORIES) == set(upstream)
    assert set(valueeval.CATEGORIES.values()) == set(VALUES)
    found = prompts.load(f"valueeval:{folder}")
    assert found.values == VALUES
    sizes = found.df.groupby(["value", "cluster", "pole"]).size().unstack(fill_value=0)
    assert (sizes["+"] == sizes["-"]).all()
    # An oracle of its own: the premises labelled Hedonism, read with pandas.
    told: set[str] = set()
    for labels in folder.glob("labels-*.tsv"):
        table = pd.read_csv(labels, sep="\t").merge(
            pd.read_csv(labels.with_name(labels.name.replace("labels", "arguments")), sep="\t", quoting=csv.QUOTE_NONE),
            on="Argument ID",
        )
        told |= set(table.loc[table["Hedonism"] == 1, "Premise"].str.strip())
    hedonism = found.for_value("hedonism")
    plus = {e.answer for e, pole in zip(hedonism.examples(), hedonism.df["pole"], strict=True) if pole == "+"}
    assert plus <= told and len(plus) > 0.9 * len(told)


def test_the_twenty_categories_are_values_of_their_own(shared_dir: Path) -> None:
    folder = shared_dir / "data" / "valueeval"
    assert set(NAME_OF_CATEGORY) == set(valueeval.CATEGORIES) and tuple(NAME_OF_CATEGORY.values()) == SCHWARTZ20.names
    found = prompts.load(f"valueeval:{folder}", theory="schwartz20")
    assert found.values == SCHWARTZ20.names and found.theory == SCHWARTZ20
    ten = prompts.load(f"valueeval:{folder}").for_value("hedonism").df["text"]
    assert set(found.for_value("hedonism").df["text"]) == set(ten)
    with pytest.raises(InputError, match="not of moral-foundations"):
        prompts.load(f"valueeval:{folder}", theory="moral-foundations")
