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
def test_a_bad_row_stops_the_reading_with_its_line_or_is_counted(tmp_path, row, complaint):
    file = tmp_path / "mine.csv"
    file.write_text(f"text,value,label\ngood,power,1\n{row}\n")
    with pytest.raises(InputError, match=f"line 3: .*{complaint}"):
        LabelledTexts.load(file)
    found = LabelledTexts.load(file, skip_bad=True)
    assert len(found) == 1 and found.part(np.array([True])).note == found.note
    assert f"{file}: 1 malformed rows left out of 2, the first: {file}, line 3" in found.note


def test_a_label_that_a_later_row_replaces_is_counted(tmp_path):
    file = tmp_path / "mine.csv"
    file.write_text("text,value,label\nfirst,power,1\nfirst,power,0\nfirst,security,1\nother,power,1\nother,power,1\n")
    found = LabelledTexts.load(file)
    assert len(found) == 2 and found.labels[0][VALUES.index("power")] == 0
    assert found.note == "1 of 5 rows left out: a later row of the same text has another label, which counts."


def test_labels_of_the_public_formats_say_what_they_do_not_read(tmp_path):
    for trait in ("risk-averse", "narcissism"):
        rows = [{"statement": f"{trait} {n}", "answer_matching_behavior": [" Yes", " No"][n % 2]} for n in range(6)]
        (tmp_path / f"{trait}.jsonl").write_text("\n".join(json.dumps(row) for row in rows))
    assert "6 of 12 statements left out" in LabelledTexts.load(f"persona:{tmp_path}").note
    folder = tmp_path / "valueeval"
    folder.mkdir()
    labels = "\t".join(["Argument ID", *CATEGORIES]) + "\nA1\t" + "\t".join("0" * len(CATEGORIES)) + "\n"
    for name in ("training", "extra"):
        (folder / f"arguments-{name}.tsv").write_text("Argument ID\tConclusion\tStance\tPremise\nA1\tc\tagainst\tp\n")
        (folder / f"labels-{name}.tsv").write_text(labels)
    (folder / "arguments-bare.tsv").write_text("")
    note = LabelledTexts.load(f"valueeval:{folder}").note
    assert note.startswith("Not read, because there is no file of labels for it: arguments-bare.tsv.")
    assert note.endswith("are: arguments-extra.tsv.")


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


def test_a_balanced_sample_has_as_many_texts_of_each_label_and_is_fixed():
    labels = np.full((60, 10), np.nan)
    labels[:40, 2], labels[40:, 5] = np.arange(40) % 4 == 0, 1.0
    texts = tuple(f"text {i}" for i in range(60))
    source = LabelledTexts("own", texts, ("",) * 60, labels, VALUES, np.array(texts), np.array(["test"] * 60))
    sample = source.balanced(7)
    assert np.nansum(sample.labels[:, 2]) == 7 and (sample.labels[:, 2] == 0).sum() == 7
    assert np.nansum(sample.labels[:, 5]) == 7 and len(sample) == 21
    assert sample.texts == source.balanced(7).texts and list(sample.texts) == [t for t in texts if t in sample.texts]
    assert len(source.balanced(100)) == 60
