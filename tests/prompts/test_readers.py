"""Readers of public formats on small files of the format, on the real sets where they are at hand, and on broken ones."""

from __future__ import annotations

import csv
import json
from pathlib import Path

import pandas as pd
import pytest

from neva_tl import prompts
from neva_tl.core.errors import InputError
from neva_tl.core.values import VALUES
from neva_tl.prompts.readers import persona, valueeval


def write(path: Path, *lines: str) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("\n".join(lines) + "\n", encoding="utf-8")
    return path


# --- our own schema -------------------------------------------------------------------------------------------------


def test_own_csv_with_the_least_columns(tmp_path: Path) -> None:
    file = write(tmp_path / "mine.csv", "value,pole,text", *(f"power,{p},text {p} {i}" for i in range(4) for p in "+-"))
    found = prompts.load(file)
    assert len(found) == 8 and found.values == ("power",) and not found.paired
    assert set(found.df["split"]) == {"train", "validation", "test"}
    assert set(found.df["source"]) == {str(file)}


def test_own_jsonl_keeps_what_is_stated(tmp_path: Path) -> None:
    rows = [
        {"value": "hedonism", "pole": p, "text": f"Q{i}? A{p}", "answer_start": 4, "answer_end": 6, "pair_id": f"p{i}",
         "split": "test", "cluster": f"c{i}", "form": "f", "source": "s", "extra": [1]}
        for i in range(3) for p in "+-"
    ]  # fmt: skip
    found = prompts.load(write(tmp_path / "mine.jsonl", *(json.dumps(row) for row in rows), ""))
    assert found.df.to_dict("records") == [{k: v for k, v in row.items() if k != "extra"} for row in rows]
    assert found.examples()[0] == prompts.Example("Q0?", "A+")


@pytest.mark.parametrize(
    ("name", "lines", "message"),
    [
        ("a.csv", ["value,pole", "power,+"], r"a\.csv, line 1: no column 'text'"),
        ("a.csv", ["value,pole,text"], "header and no rows"),
        ("a.csv", ["value,pole,text", "power,+,a", "power,-,b,c"], r"a\.csv, line 3: 4 fields where the header has 3"),
        ("a.csv", ["value,pole,text", "power,+,a", "", "kindness,-,b"], r"a\.csv, line 4: unknown value 'kindness'"),
        ("a.csv", ["value,pole,text", 'power,+,"two', 'lines"', "power,?,b"], r"a\.csv, line 4: pole is '\?'"),
        ("a.csv", ["value,pole,text", 'power,+,"open'], r"a\.csv, line 2: unexpected end"),
        ("a.csv", ["value,pole,text,answer_start,answer_end", "power,+,abc,0,x"], r"line 2: answer_end is 'x'"),
        ("a.jsonl", ['{"value": "power"'], r"a\.jsonl, line 1: not JSON"),
        ("a.jsonl", ["", "[1]"], r"a\.jsonl, line 2: a JSON object is expected, not list"),
        ("a.jsonl", ['{"value": "power", "pole": "+"}'], r"a\.jsonl, line 1: no key 'text'"),
        ("a.jsonl", [""], "holds no JSON objects"),
        ("a.parquet", ["no parquet"], "is not a parquet file"),
    ],
)
def test_own_schema_broken(tmp_path: Path, name: str, lines: list[str], message: str) -> None:
    with pytest.raises(InputError, match=message):
        prompts.load(write(tmp_path / name, *lines))


def test_parquet_without_a_column(tmp_path: Path) -> None:
    pd.DataFrame({"value": ["power"], "text": ["a"]}).to_parquet(tmp_path / "a.parquet")
    with pytest.raises(InputError, match=r"no column 'pole'"):
        prompts.load(tmp_path / "a.parquet")


def test_not_utf8(tmp_path: Path) -> None:
    (tmp_path / "a.csv").write_bytes("value,pole,text\npower,+,café\n".encode("latin-1"))
    with pytest.raises(InputError, match="not UTF-8"):
        prompts.load(tmp_path / "a.csv")


# --- any reader -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("spec", ["{}", "pairs:{}", "valuebench:{}"])
def test_missing_and_empty_files(tmp_path: Path, spec: str) -> None:
    file = tmp_path / "a.csv"
    with pytest.raises(InputError, match="does not exist"):
        prompts.load(spec.format(file))
    file.touch()
    with pytest.raises(InputError, match="is empty"):
        prompts.load(spec.format(file))
    with pytest.raises(InputError, match="is a folder"):
        prompts.load(spec.format(write(tmp_path / "d.csv" / "x", "").parent))


@pytest.mark.parametrize("scheme", ["persona", "valueeval"])
def test_missing_and_empty_folders(tmp_path: Path, scheme: str) -> None:
    with pytest.raises(InputError, match="does not exist"):
        prompts.load(f"{scheme}:{tmp_path / 'no'}")
    with pytest.raises(InputError, match=r"holds no"):
        prompts.load(f"{scheme}:{tmp_path}")
    with pytest.raises(InputError, match="is a file"):
        prompts.load(f"{scheme}:{write(tmp_path / 'f', 'x')}")


@pytest.mark.parametrize("spec", ["nothing", "schwarz", "unknown:x", "a.txt", ""])
def test_unknown_spec_lists_what_is_known(spec: str) -> None:
    with pytest.raises(InputError, match=r"unknown prompts.*demo, schwartz, pairs:PATH.*\.parquet"):
        prompts.load(spec)


def test_scheme_without_a_path() -> None:
    with pytest.raises(InputError, match="names no path"):
        prompts.load("persona:")


# --- pairs ----------------------------------------------------------------------------------------------------------


def test_pairs_with_value_column(tmp_path: Path) -> None:
    lines = [f'{v},"Would you, {i}?",Or not {i}?,topic {i}' for v in ("Power", "tradition") for i in range(5)]
    found = prompts.load(f"pairs:{write(tmp_path / 'x.csv', 'value,question_1,question_2,topic', *lines)}")
    assert found.values == ("power", "tradition") and found.paired and len(found) == 20
    first = found.df.groupby("cluster", sort=False).get_group("power/topic 0")
    assert first[["pole", "text"]].to_numpy().tolist() == [["+", "Would you, 0?"], ["-", "Or not 0?"]]
    assert set(found.df["cluster"]) == {f"{v}/topic {i}" for v in ("power", "tradition") for i in range(5)}


def test_pairs_drops_repeated_lines(tmp_path: Path) -> None:
    file = write(tmp_path / "power.csv", "question_1,question_2", "a,b", "c,d", "a,b", "a,e")
    found = prompts.load(f"pairs:{file}")
    assert len(found) == 6 and found.note == "1 repeated pairs dropped."


def test_pairs_named_by_the_file_do_not_depend_on_line_order(tmp_path: Path) -> None:
    lines = [f"do {i},do not {i}" for i in range(20)]
    one = prompts.load(f"pairs:{write(tmp_path / 'a' / 'Self_Direction.csv', 'question_1,question_2', *lines)}")
    two = prompts.load(f"pairs:{write(tmp_path / 'b' / 'self-direction.csv', 'question_1,question_2', *lines[::-1])}")
    assert one.values == ("self-direction",)
    assert one.df.set_index("text")["split"].to_dict() == two.df.set_index("text")["split"].to_dict()


@pytest.mark.parametrize(
    ("lines", "message"),
    [
        (["question_1,other", "a,b"], "line 1: no column 'question_2'"),
        (["question_1,question_2", "a,b"], "line 2: no value named"),
        (["value,question_1,question_2", "power,a,b", "kindness,c,d"], "line 3: unknown value 'kindness'"),
        (["value,question_1,question_2", "power,a,b", "power,c, "], "line 3: the text is empty"),
        (["value,question_1,question_2", "power,a,b", "power,a,b"], "power has 1 pairs"),
        (["value,question_1,question_2", "power,a,b"], "power has 1 pairs"),
        (["value,question_1,question_2", "power,a,b", "power,c"], "line 3: 2 fields where the header has 3"),
    ],
)
def test_pairs_broken(tmp_path: Path, lines: list[str], message: str) -> None:
    with pytest.raises(InputError, match=message):
        prompts.load(f"pairs:{write(tmp_path / 'x.csv', *lines)}")


# --- persona --------------------------------------------------------------------------------------------------------


def persona_lines(tag: str, n: int = 6) -> list[str]:
    return [
        json.dumps({"statement": f"{tag} {answer} {i}", "answer_matching_behavior": f" {answer}"})
        for i in range(n)
        for answer in ("Yes", "No")
    ]


def test_persona_maps_traits_and_makes_no_pairs(tmp_path: Path) -> None:
    write(tmp_path / "risk-averse.jsonl", *persona_lines("careful"))
    write(tmp_path / "openness.jsonl", *persona_lines("open"), *persona_lines("shared", 1))
    write(tmp_path / "desire-to-be-more-creative.jsonl", *persona_lines("create"), *persona_lines("shared", 1))
    write(tmp_path / "narcissism.jsonl", "this trait stands for no value and is not read")
    found = prompts.load(f"persona:{tmp_path}")
    assert found.values == ("self-direction", "security")
    assert found.df["pair_id"].isna().all() and found.df["answer_start"].isna().all()
    assert found.df["value"].value_counts().to_dict() == {"self-direction": 26, "security": 12}
    assert found.note.startswith("2 statements dropped")
    assert (found.df["pole"] == found.df["text"].str.contains("Yes").map({True: "+", False: "-"})).all()


def test_persona_drops_statements_on_which_traits_disagree(tmp_path: Path) -> None:
    odd = {"statement": "odd", "answer_matching_behavior": " Yes"}
    write(tmp_path / "openness.jsonl", *persona_lines("open"), json.dumps(odd))
    odd["answer_matching_behavior"] = " No"
    write(tmp_path / "desire-to-be-more-creative.jsonl", *persona_lines("create"), json.dumps(odd))
    found = prompts.load(f"persona:{tmp_path}")
    assert "odd" not in set(found.df["text"]) and len(found) == 24


@pytest.mark.parametrize(
    ("line", "message"),
    [
        (
            '{"statement": "a", "answer_matching_behavior": "maybe"}',
            r"openness\.jsonl, line 13: answer_matching_behavior is 'maybe'",
        ),
        ('{"statement": "a"}', r"openness\.jsonl, line 13: no key 'answer_matching_behavior'"),
        ('{"statement": " ", "answer_matching_behavior": " Yes"}', r"openness\.jsonl, line 13: the text is empty"),
    ],
)  # fmt: skip
def test_persona_broken(tmp_path: Path, line: str, message: str) -> None:
    write(tmp_path / "openness.jsonl", *persona_lines("open"), line)
    with pytest.raises(InputError, match=message):
        prompts.load(f"persona:{tmp_path}")


def test_persona_on_the_real_set(shared_dir: Path) -> None:
    found = prompts.load(f"persona:{shared_dir / 'data' / 'persona'}")
    assert set(found.values) == set(VALUES) - {"hedonism"} == set(persona.TRAITS)
    raw = sum(
        len((shared_dir / "data" / "persona" / f"{trait}.jsonl").read_text().splitlines())
        for traits in persona.TRAITS.values()
        for trait in traits
    )
    assert len(found) == raw - int(found.note.split()[0])
    train = found.split("train").df.groupby(["value", "pole"]).size()
    assert train.min() >= 150
    quick = prompts.load(f"persona:{shared_dir / 'data' / 'persona'}", per_value=20)
    assert (quick.df.groupby(["value", "pole"]).size() == 20).all()


# --- ValueEval ------------------------------------------------------------------------------------------------------


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


# --- ValueBench -----------------------------------------------------------------------------------------------------

HEADER = "questionnaire,item,value,agreement,question"


def test_valuebench_directions_and_presence(tmp_path: Path) -> None:
    lines = [f"PVQ40,Item {v} {i}.,{v},1,?" for v in ("Self-Direction", "Hedonism") for i in range(3)]
    lines += [f"6FPQ,I strive {i}.,Achievement,{(1, -1)[i % 2]},?" for i in range(6)]
    lines += ["6FPQ,I strive 0.,Achievement,1,?", "X,Other.,Anxiety,1,?"]
    found = prompts.load(f"valuebench:{write(tmp_path / 'v.csv', HEADER, *lines)}")
    assert found.values == ("self-direction", "hedonism", "achievement")
    assert "1 items of other values dropped" in found.note and "absence: self-direction, hedonism." in found.note
    own = found.df[found.df["value"] == "achievement"]
    assert own["pole"].value_counts().to_dict() == {"+": 3, "-": 3} and set(own["source"]) == {"valuebench"}
    absence = found.df[(found.df["value"] == "hedonism") & (found.df["pole"] == "-")]
    assert len(absence) == 6 and not absence["text"].str.contains("Hedonism").any()
    assert absence["source"].str.contains("presence against absence").all()


@pytest.mark.parametrize(
    ("line", "message"),
    [("PVQ40,Item.,Power,0,?", "line 2: agreement is '0'"), ("X,Item.,Anxiety,1,?", "none of its 1 items")],
)
def test_valuebench_broken(tmp_path: Path, line: str, message: str) -> None:
    with pytest.raises(InputError, match=message):
        prompts.load(f"valuebench:{write(tmp_path / 'v.csv', HEADER, line)}")


def test_valuebench_on_the_real_set(shared_dir: Path) -> None:
    found = prompts.load(f"valuebench:{shared_dir / 'data' / 'valuebench' / 'value_orientation.csv'}")
    assert found.values == VALUES
    # The portrait questionnaire has 40 items; each stands as + for the value it portrays.
    assert (found.df["pole"] == "+").sum() >= 40
