"""Readers of public sets: what they take, what they refuse and where, and fixed subsets."""

from __future__ import annotations

import json
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from neva_tl.core.errors import InputError
from neva_tl.evaluation.benchmarks import (
    Benchmark,
    Item,
    data_sets,
    read_benchmarks,
    read_blimp,
    read_lambada,
    read_mmlu,
    read_multiple_choice,
    read_plain_text,
)

GOOD_CHOICE = {"query": "Question: How to cool tea?\n", "choices": ["Wait. ", "Boil it."], "gold": 0}
GOOD_PAIR = {"sentence_good": "He runs.", "sentence_bad": "He run.", "UID": "agreement"}


def jsonl(path: Path, *rows: Any) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(
        "".join((row if isinstance(row, str) else json.dumps(row)) + "\n" for row in rows), encoding="utf-8"
    )
    return path


def test_multiple_choice(tmp_path: Path) -> None:
    schema = {"context_options": ["A thanked B for A", "A thanked B for B"], "continuation": "had helped.", "gold": 1}
    file = jsonl(tmp_path / "x.jsonl", GOOD_CHOICE, "", {**GOOD_CHOICE, "query": "I rest, because", "gold": 1}, schema)
    found = read_multiple_choice(file)
    assert (found.name, found.kind, len(found), found.skipped) == ("x", "choice", 3, 0)
    first, second, third = found.items
    # lm-evaluation-harness's prompt of PIQA; other queries stand as they are; the space belongs to the candidate
    assert first.prompts == ("Question: How to cool tea?\nAnswer:",) * 2 and first.continuations == (
        " Wait.",
        " Boil it.",
    )
    assert second.prompts == ("I rest, because",) * 2 and (second.id, second.gold) == ("3", 1)
    assert third.prompts == tuple(schema["context_options"]) and third.continuations == (" had helped.",) * 2


def test_mmlu_in_both_forms(tmp_path: Path) -> None:
    (tmp_path / "high_school_x_test.csv").write_text('"Why, ""so""?\nReally?",one,two,three,four,C\n', encoding="utf-8")
    (letters,) = read_mmlu(tmp_path, form="letters").items
    assert letters.prompts[0] == (
        "The following are multiple choice questions (with answers) about high school x.\n\n"
        'Why, "so"?\nReally?\nA. one\nB. two\nC. three\nD. four\nAnswer:'
    )
    assert letters.continuations == (" A", " B", " C", " D") and letters.gold == 2
    (cloze,) = read_mmlu(tmp_path / "high_school_x_test.csv").items
    assert cloze.prompts[0] == (
        'The following are questions (with answers) about high school x.\n\nQuestion: Why, "so"?\nReally?\nAnswer:'
    )
    assert cloze.continuations == (" one", " two", " three", " four") and cloze.id == "high_school_x/2"


def test_lambada_and_texts(tmp_path: Path) -> None:
    (item,) = read_lambada(jsonl(tmp_path / "l.jsonl", {"context": "I like my ", "continuation": "chili"})).items
    assert (item.prompts, item.continuations) == (("I like my",), (" chili",))
    (tmp_path / "t.json").write_text(json.dumps(["One.", "Two.\n\nTwo."]), encoding="utf-8")
    assert [x.continuations[0] for x in read_plain_text(tmp_path / "t.json").items] == ["One.", "Two.\n\nTwo."]
    (tmp_path / "t.txt").write_text("One\nmore.\n\n \nTwo.\n", encoding="utf-8")
    assert [x.continuations[0] for x in read_plain_text(tmp_path / "t.txt").items] == ["One\nmore.", "Two."]


def test_blimp_from_zip_folder_and_file_is_one(tmp_path: Path) -> None:
    for name in ("a", "b"):
        jsonl(tmp_path / "blimp" / "data" / f"{name}.jsonl", GOOD_PAIR, {**GOOD_PAIR, "UID": name})
    archive = tmp_path / "BLiMP.zip"
    with zipfile.ZipFile(archive, "w") as out:
        for file in sorted((tmp_path / "blimp").rglob("*.jsonl")):
            out.write(file, f"data/{file.name}")
        out.writestr("__MACOSX/data/._a.jsonl", b"\x00\x05\x16junk")
        out.writestr("data/.DS_Store", b"\x00")
    zipped, folder = read_blimp(archive), read_blimp(tmp_path / "blimp")
    assert zipped.key == folder.key and len(zipped) == 4
    assert [x.cluster for x in zipped.items] == ["agreement", "a", "agreement", "b"]
    assert zipped.items[0] == Item("a/1", "agreement", ("", ""), ("He runs.", "He run."), 0)
    assert len(read_blimp(tmp_path / "blimp" / "data" / "a.jsonl")) == 2


def write_good(folder: Path, name: str, good: str) -> Path:
    file = folder / "good" / name
    file.parent.mkdir()
    file.write_text(f"{good}\n", encoding="utf-8")
    return file


BROKEN: list[tuple[Callable[..., Benchmark], str, str, str, str]] = [
    (read_multiple_choice, "x.jsonl", json.dumps(GOOD_CHOICE), '{"query": "q", "gold": 0, "choices": ["a"]}', "two texts"),
    (read_multiple_choice, "x.jsonl", json.dumps(GOOD_CHOICE), '{"query": "q", "gold": 2, "choices": ["a", "b"]}', "from 0 to 1"),
    (read_multiple_choice, "x.jsonl", json.dumps(GOOD_CHOICE), '{"query": "q", "gold": true, "choices": ["a", "b"]}', "from 0"),
    (read_multiple_choice, "x.jsonl", json.dumps(GOOD_CHOICE), '{"query": " ", "gold": 0, "choices": ["a", "b"]}', "'query'"),
    (read_multiple_choice, "x.jsonl", json.dumps(GOOD_CHOICE), "{", "not JSON"),
    (read_multiple_choice, "x.jsonl", json.dumps(GOOD_CHOICE), '{"query": "q", "choices": ["a", "b"]}', "no key 'gold'"),
    (read_lambada, "x.jsonl", '{"context": "a", "continuation": "b"}', '{"context": "a", "continuation": 3}', "'continuation'"),
    (read_blimp, "x.jsonl", json.dumps(GOOD_PAIR), '{"sentence_good": "a"}', "'sentence_bad'"),
    (read_blimp, "x.jsonl", json.dumps(GOOD_PAIR), "[1]", "object is expected, not list"),
    (read_mmlu, "x.csv", "q,a,b,c,d,A", "q,a,b,c,A", "5 fields"),
    (read_mmlu, "x.csv", "q,a,b,c,d,A", "q,a,b,c,d,E", "answer is 'E'"),
    (read_mmlu, "x.csv", "q,a,b,c,d,A", "q,a,,c,d,A", "is empty"),
]  # fmt: skip


@pytest.mark.parametrize(("read", "name", "good", "bad", "message"), BROKEN)
def test_malformed_rows_stop_or_are_counted(
    tmp_path: Path, read: Any, name: str, good: str, bad: str, message: str
) -> None:
    file = tmp_path / name
    file.write_text(f"{good}\n{bad}\n{good}\n", encoding="utf-8")
    with pytest.raises(InputError, match=message) as caught:
        read(file)
    assert f"{file}, line 2" in str(caught.value)
    found = read(file, skip_bad=True)
    assert (len(found), found.skipped) == (2, 1)
    assert "1 malformed rows left out of 3, the first" in found.note and found.limit(1).note == found.note
    assert read(write_good(tmp_path, name, good)).note == ""
    file.write_text(bad + "\n", encoding="utf-8")
    with pytest.raises(InputError):  # nothing is left
        read(file, skip_bad=True)


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("x.json", b'{"a": 1}', "a list of texts is expected"),
        ("x.json", b'["a", 3]', "text 2: no text"),
        ("x.json", b"[", "line 1: not JSON"),
        ("x.txt", b"\xff\xfe\x00", "not UTF-8"),
        ("x.csv", b"\xff,a,b,c,d,A\n", "not UTF-8"),
        ("x.csv", b'"q,a,b,c,d,A\n', "line 1"),
        ("x.zip", b"no zip", "not a readable zip"),
        ("x.jsonl", b'{"a": 1}\n', "no known public set"),
        ("x.jsonl", b"[1]\n", "no known public set"),
        ("x.json", b"", "is empty"),
    ],
)
def test_files_that_are_something_else(tmp_path: Path, name: str, content: bytes, message: str) -> None:
    (tmp_path / name).write_bytes(content)
    with pytest.raises(InputError, match=message):
        read_benchmarks(f"set={tmp_path / name}")


def test_specs(tmp_path: Path) -> None:
    (tmp_path / "m_test.csv").write_text("q,a,b,c,d,A\n", encoding="utf-8")
    csv = tmp_path / "m_test.csv"
    assert [one.name for one in read_benchmarks(f"mine={tmp_path}")] == ["mine (letters)", "mine (cloze)"]
    (only,) = read_benchmarks(f"mmlu_letters={csv}")
    assert (only.name, only.kind) == ("mmlu (letters)", "letter")
    (one,) = read_benchmarks(str(jsonl(tmp_path / "p.jsonl", "{", GOOD_CHOICE)), skip_bad=True)
    assert (one.name, one.skipped) == ("p", 1)
    for spec, message in (("=x", "NAME=PATH"), ("a=", "NAME=PATH"), ("piqa=/nowhere", "does not exist")):
        with pytest.raises(InputError, match=message):
            read_benchmarks(spec)


def test_data_folder(tmp_path: Path) -> None:
    jsonl(tmp_path / "multiple_choice" / "piqa.jsonl", GOOD_CHOICE)
    jsonl(tmp_path / "blimp" / "a.jsonl", GOOD_PAIR)
    (tmp_path / "mmlu" / "test").mkdir(parents=True)
    (tmp_path / "mmlu" / "test" / "m_test.csv").write_text("q,a,b,c,d,A\n", encoding="utf-8")
    found = [one.name for spec in data_sets(tmp_path) for one in read_benchmarks(spec)]
    assert found == ["blimp", "mmlu (letters)", "mmlu (cloze)", "piqa"]
    chosen = data_sets(tmp_path, ("piqa", "mmlu_cloze"))
    assert [one.name for spec in chosen for one in read_benchmarks(spec)] == ["piqa", "mmlu (cloze)"]
    with pytest.raises(InputError, match="no set 'lambada'"):
        data_sets(tmp_path, ("lambada",))
    with pytest.raises(InputError, match="holds none of"):
        data_sets(tmp_path / "multiple_choice")


def numbered(n: int) -> Benchmark:
    items = tuple(Item(str(i), str(i), (f"q{i}",) * 2, (" a", " b")) for i in range(n))
    return Benchmark("n", "choice", items)


@given(st.integers(1, 40), st.integers(1, 40), st.integers(1, 40))
def test_limits_are_fixed_nested_and_in_order(n: int, small: int, large: int) -> None:
    small, large = sorted((small, large))
    whole = numbered(n)
    a, b = whole.limit(small), whole.limit(large)
    assert len(a) == min(small, n) and set(a.items) <= set(b.items) <= set(whole.items)
    assert [int(x.id) for x in a.items] == sorted(int(x.id) for x in a.items)
    assert a.items == numbered(n).limit(small).items and a.total == n
    # by content: the order of the file does not choose
    turned = Benchmark("n", "choice", whole.items[::-1]).limit(small)
    assert set(turned.items) == set(a.items)


def test_limit_and_key() -> None:
    whole = numbered(200)
    taken = [int(x.id) for x in whole.limit(50).items]
    assert taken != list(range(50)) and 60 < sum(taken) / 50 < 140
    assert whole.limit(None) is whole and whole.limit(50).key != whole.key == numbered(200).key
    with pytest.raises(InputError, match="positive number"):
        whole.limit(0)
    with pytest.raises(InputError, match="holds no items"):
        Benchmark("n", "choice", ())
    assert "of: 200" in whole.limit(5)._repr_html_() and whole.show().axes


def test_public_files(shared_dir: Path) -> None:
    """The published sizes: 67 x 1,000 pairs, 1,838 PIQA questions, 12 MMLU subjects."""
    found = {one.name: one for spec in data_sets(shared_dir / "data") for one in read_benchmarks(spec)}
    assert {"piqa": 1838, "openbook_qa": 500, "blimp": 67_000, "copa": 100, "winograd_wsc": 273}.items() <= {
        name: len(one) for name, one in found.items()
    }.items()
    assert len({x.cluster for x in found["blimp"].items}) == 67
    assert len({x.id.split("/")[0] for x in found["mmlu (cloze)"].items}) == 12
    assert all(one.skipped == 0 for one in found.values())
