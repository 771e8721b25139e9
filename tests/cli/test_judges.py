"""`neva-tl train-judge` and `validate-judge`: what they print and write, and how they refuse."""

import json

import numpy as np
import pandas as pd
import pytest

from helpers.scripts import load_script
from neva_tl.cli import main as cli
from neva_tl.evaluation.judge_quality.quality import quality
from neva_tl.evaluation.judges import load_judge
from neva_tl.evaluation.labels.labelled import LabelledTexts
from neva_tl.prompts.readers.valueeval import CATEGORIES

FILLER = ["people", "town", "often", "meet", "near", "old", "bridge", "when", "long", "work", "done", "their"]


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    """ValueEval's and persona's formats with planted words: a category's own word stands where its label is 1."""
    root = tmp_path_factory.mktemp("data")
    rng = np.random.default_rng(0)
    names = list(CATEGORIES)
    folder = root / "valueeval"
    folder.mkdir()
    for part, n in (("training", 200), ("validation", 80), ("test", 80)):
        labels = rng.random((n, 20)) < 0.2
        arguments, table = ["Argument ID\tConclusion\tStance\tPremise"], ["\t".join(["Argument ID", *names])]
        for i, row in enumerate(labels):
            words = [*rng.choice(FILLER, 6, replace=False), *(f"word{k}x" for k in np.flatnonzero(row))]
            arguments.append(f"{part}{i}\tClaim {part} {i // 4}\tagainst\t{' '.join(words)}")
            table.append("\t".join([f"{part}{i}", *(str(int(x)) for x in row)]))
        (folder / f"arguments-{part}.tsv").write_text("\n".join(arguments) + "\n")
        (folder / f"labels-{part}.tsv").write_text("\n".join(table) + "\n")
    (root / "persona").mkdir()
    rows = [
        {
            "statement": f"I want more of it {i} {'and I lead' if i % 2 else 'never'}",
            "answer_matching_behavior": [" No", " Yes"][i % 2],
        }
        for i in range(40)
    ]
    (root / "persona" / "desire-for-acquiring-power.jsonl").write_text("\n".join(map(json.dumps, rows)))
    return root


@pytest.fixture(scope="module")
def trained(data, tmp_path_factory):
    out = tmp_path_factory.mktemp("judges") / "tfidf"
    with pytest.raises(SystemExit) as caught:
        cli.main(["train-judge", "--data", str(data / "valueeval"), "--features", "tfidf", "--out", str(out)])
    assert not caught.value.code
    return out


def test_train_then_validate(data, trained, tmp_path, call):
    code, out, _ = call("validate-judge", "--judge", f"classifier:{trained}", "--labels", f"valueeval:{data / 'valueeval'}",
        "--out", tmp_path / "card.json", "--n-boot", 50, "--json",
    )  # fmt: skip
    card = json.loads(out)
    assert code == 0 and json.loads((tmp_path / "card.json").read_text()) == card
    test = LabelledTexts.load(f"valueeval:{data / 'valueeval'}").split("test")
    expected = quality(load_judge(f"classifier:{trained}"), test, n_boot=50)
    found = {(row["level"], row["measure"]): row["est"] for row in card["macro"]}
    assert found["category", "task_f1"] == pytest.approx(expected.measure("task_f1", "category"))
    assert found["category", "task_f1"] > 0.6 and card["own_categories"] is True


def test_the_card_is_printed_for_people_too(data, trained, call):
    code, out, _ = call(
        "validate-judge", "--judge", "wordlist", "--labels", data / "valueeval", "--split", "validation"
    )
    assert code == 0 and "task_f1" in out and "one_baseline" in out and "texts per second" in out
    code, out, _ = call(
        "validate-judge",
        "--judge",
        f"classifier:{trained}",
        "--labels",
        f"persona:{data / 'persona'}",
        "--threshold",
        0.2,
    )
    assert code == 0 and "score >= 0.2" in out


def test_training_again_keeps_the_judge_and_refuses_another(data, trained, call):
    argv = ("train-judge", "--data", data / "valueeval", "--features", "tfidf", "--out", trained)
    before = {file.name: file.stat().st_mtime_ns for file in trained.iterdir()}
    code, out, err = call(*argv)
    assert code == 0 and "already trained" in err and f"-> {trained}: F1" in out
    code, out, err = call(*argv, "--seed", 1)
    assert (code, out) == (2, "") and "holds another judge (seed was 0, now 1)" in err and err.count("\n") == 1
    assert {file.name: file.stat().st_mtime_ns for file in trained.iterdir()} == before


def test_train_prints_json(data, tmp_path, call):
    file = tmp_path / "mine.csv"
    rows = [f"{'I lead' if i % 2 else 'I rest'} at place{i % 7} {i},power,{i % 2}" for i in range(60)]
    file.write_text("text,value,label\n" + "\n".join([*rows, "broken"]) + "\n")
    code, _, err = call("train-judge", "--data", file, "--features", "tfidf", "--out", tmp_path / "j")
    assert code == 2 and "line 62: 1 fields where the header has 3" in err
    code, out, err = call(
        "train-judge", "--data", file, "--features", "tfidf", "--out", tmp_path / "j", "--skip-bad", "--json"
    )
    found = json.loads(out)
    assert code == 0 and "1 malformed rows left out" in err
    assert found["judge"] == load_judge(f"classifier:{tmp_path / 'j'}").name
    assert found["data"]["training texts"] == 30 and [row["label"] for row in found["validation"]["categories"]] == [
        "power"
    ]


@pytest.mark.parametrize(
    ("argv", "complaint"),
    [
        (("train-judge", "--data", "{valueeval}", "--features", "bert"), "choose tfidf, minilm, both"),
        (("train-judge", "--data", "nothing"), "unknown labelled texts 'nothing'"),
        (("train-judge", "--data", "{valueeval}", "--out", "{valueeval}"), "holds no judge: choose another folder"),
        (("validate-judge", "--judge", "wordlist", "--labels", "{valueeval}", "--split", "dev"), "has no split 'dev'"),
        (("validate-judge", "--judge", "oracle", "--labels", "{valueeval}"), "unknown judge 'oracle'"),
        (("validate-judge", "--judge", "classifier:/nowhere", "--labels", "{valueeval}"), "is not a folder"),
        (("validate-judge", "--judge", "wordlist", "--labels", "valueeval:/nowhere"), "/nowhere does not exist"),
    ],
)
def test_bad_input_is_one_line_and_status_two(data, call, argv, complaint):
    code, out, err = call(*(str(arg).format(valueeval=data / "valueeval") for arg in argv))
    assert code == 2 and complaint in err and not out and "Traceback" not in err


# ---------------------------------------------------------------- analyses/judge_quality.py


def test_the_analysis_writes_its_tables_and_trains_once(data, tmp_path, monkeypatch, capsys):
    script = load_script("judge_quality")
    monkeypatch.setattr(script, "KINDS", ("tfidf",))
    argv = ["judge_quality", "--data", str(data), "--out", str(tmp_path / "j"), "--n-boot", "20"]
    monkeypatch.setattr("sys.argv", argv)
    assert script.main() == 0
    assert "published: BERT" in capsys.readouterr().out
    table = pd.read_parquet(tmp_path / "j" / "tables" / "judges.parquet")
    assert table["judge"].tolist()[0] == "wordlist" and len(table) == 2 + 3
    classifier = table[table["judge"].str.startswith("classifier")].iloc[0]
    assert classifier["task_f1"] > table.loc[0, "task_f1"] and classifier["own_categories"]
    assert classifier["mean_kappa"] == pytest.approx(
        table.loc[0, "mean_kappa"]
    )  # two judges agree with each other alone
    cards = json.loads((tmp_path / "j" / "judges.json").read_text())["cards"]
    assert set(cards[classifier["judge"]]) == {"valueeval", "persona"}
    made = (tmp_path / "j" / "classifier-tfidf" / "classifier.json").stat().st_mtime_ns
    assert script.main() == 0
    assert (tmp_path / "j" / "classifier-tfidf" / "classifier.json").stat().st_mtime_ns == made
    monkeypatch.setattr("sys.argv", [*argv[:2], "/nowhere", *argv[3:]])
    assert script.main() == 2 and "/nowhere" in capsys.readouterr().err
