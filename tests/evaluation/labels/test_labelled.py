"""Texts with labels: reading, splits, reduction to ten values, complaints."""

import json

import numpy as np
import pytest

from helpers.paths import SHARED
from neva_tl.core.errors import InputError
from neva_tl.core.values import VALUES
from neva_tl.evaluation.judges import load_judge
from neva_tl.evaluation.labels.labelled import LabelledTexts, to_values
from neva_tl.prompts.readers.valueeval import CATEGORIES

DATA = SHARED / "data"


def valueeval_folder(tmp_path, rows):
    names = list(CATEGORIES)
    for part, some in rows.items():
        arguments = ["Argument ID\tConclusion\tStance\tPremise"]
        labels = ["\t".join(["Argument ID", *names])]
        for number, (conclusion, premise, present) in enumerate(some):
            arguments.append(f"{part}{number}\t{conclusion}\tagainst\t{premise}")
            labels.append("\t".join([f"{part}{number}", *(str(int(name in present)) for name in names)]))
        (tmp_path / f"arguments-{part}.tsv").write_text("\n".join(arguments) + "\n")
        (tmp_path / f"labels-{part}.tsv").write_text("\n".join(labels) + "\n")
    return tmp_path


def test_valueeval_keeps_its_own_splits_and_its_categories(tmp_path):
    folder = valueeval_folder(
        tmp_path,
        {
            "training": [("We should x", "it is fun", {"Hedonism"})],
            "test": [("We should y", "it is fair", {"Face", "Humility"})],
        },
    )
    found = LabelledTexts.load(f"valueeval:{folder}")
    assert found.source == f"valueeval:{folder}" and LabelledTexts.load(found.source).texts == found.texts
    assert found.splits.tolist() == ["train", "test"] and found.texts == ("it is fun", "it is fair")
    assert found.contexts[0] == "An argument against the claim that we should x:"
    by_value = found.to_values()
    assert by_value.names == VALUES
    assert {VALUES[j] for j in np.flatnonzero(by_value.labels[1])} == {"power", "tradition"}


def test_own_rows_one_value_a_row_are_joined_and_split_by_cluster(tmp_path):
    file = tmp_path / "mine.jsonl"
    rows = [{"text": f"t{i}", "value": name, "label": i % 2} for i in range(40) for name in ("power", "security")]
    file.write_text("\n".join(map(json.dumps, rows)))
    found = LabelledTexts.load(file)
    assert len(found) == 40
    known = ~np.isnan(found.labels)
    assert known.sum() == 80 and known[:, VALUES.index("power")].all()
    sizes = {name: (found.splits == name).sum() for name in ("train", "validation", "test")}
    assert sizes == {"train": 20, "validation": 8, "test": 12}


@pytest.mark.parametrize(
    ("row", "complaint"),
    [
        ("x,power,2", "the label of power is '2'"),
        ("x,bravery,1", "unknown value 'bravery'"),
        (",power,1", "the text is empty"),
        ("x,power", "2 fields where the header has 3"),
    ],
)
def test_a_bad_row_stops_the_reading_with_its_line_or_is_counted(tmp_path, capsys, row, complaint):
    file = tmp_path / "mine.csv"
    file.write_text(f"text,value,label\ngood,power,1\n{row}\n")
    with pytest.raises(InputError, match=f"line 3: .*{complaint}"):
        LabelledTexts.load(file)
    assert len(LabelledTexts.load(file, skip_bad=True)) == 1
    assert "1 malformed rows left out" in capsys.readouterr().err


def test_a_value_is_there_where_any_of_its_categories_is_and_unknown_where_all_are():
    names = ("Face", "Power: dominance", "Stimulation")
    found = to_values(np.array([[0.0, 1.0, np.nan], [0.0, np.nan, 0.0]]), names)
    assert found[:, VALUES.index("power")].tolist() == [1.0, 0.0]
    assert np.isnan(found[0, VALUES.index("stimulation")]) and found[1, VALUES.index("stimulation")] == 0
    assert np.isnan(found[:, VALUES.index("hedonism")]).all()


@pytest.mark.skipif(not DATA.exists(), reason="no ../shared/data beside the project")
def test_the_public_sets_read_whole():
    valueeval = LabelledTexts.load(f"valueeval:{DATA / 'valueeval'}")
    assert len(valueeval) == 8965 and (valueeval.splits == "test").sum() == 1576
    persona = LabelledTexts.load(f"persona:{DATA / 'persona'}")
    assert ((~np.isnan(persona.labels)).sum(axis=1) == 1).all()


@pytest.mark.parametrize(
    ("spec", "complaint"),
    [
        ("oracle", "unknown judge 'oracle': choose .*exact, .*wordlist"),
        ("wordlist:x", "takes nothing after a colon"),
    ],
)
def test_judges_by_name(spec, complaint):
    assert load_judge("wordlist").name == "wordlist"
    with pytest.raises(InputError, match=complaint):
        load_judge(spec)
