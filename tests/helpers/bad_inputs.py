"""A folder of files and model folders that no command can use, and the few good ones that they are tried with."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pandas as pd

from neva_tl.models.tiny import tiny_checkpoint

THINGS = [
    "bridge",
    "mill",
    "farm",
    "harbour",
    "market",
    "garden",
    "school",
    "choir",
    "tower",
    "council",
    "forge",
    "bakery",
]
PNG = b"\x89PNG\r\n\x1a\n\x00\x00\x00\rIHDR\xff\xfe\x00\x80"


def header(text: bytes | str, length: int | None = None) -> bytes:
    """A safetensors file of a header alone, with the length that it claims."""
    text = text.encode() if isinstance(text, str) else text
    return (len(text) if length is None else length).to_bytes(8, "little") + text


#: Content of model.safetensors that is not one.
WEIGHTS: dict[str, bytes] = {
    "weights-empty": b"",
    "weights-text": b"these are no weights" * 9,
    "weights-png": PNG * 9,
    "weights-1tb": header("{}", 10**12),
    "weights-tensor-1tb": header(json.dumps({"a": {"dtype": "F32", "shape": [2**38], "data_offsets": [0, 2**40]}})),
    "weights-list": header("[]" + " " * 6),
    "weights-none": header("{}" + " " * 6),
    "weights-null": header("null" + " " * 4),
    "weights-utf16": header("{}".encode("utf-16")),
    "weights-deep": header("[" * 4000),
    "weights-negative": header(json.dumps({"a": {"dtype": "F32", "shape": [-1], "data_offsets": [0, -4]}})),
    "weights-other": header(json.dumps({"a": {"dtype": "F32", "shape": [1], "data_offsets": [0, 4]}})) + b"\0" * 4,
}
#: Content of config.json that describes no model.
CONFIGS: dict[str, bytes] = {
    "config-list": b"[]",
    "config-empty": b"",
    "config-object": b"{}",
    "config-null": b"null",
    "config-number": b"12",
    "config-nan": b"NaN",
    "config-text": b"model",
    "config-cut": b'{"model_type": "llama", "hidden',
    "config-utf16": '{"model_type": "llama"}'.encode("utf-16"),
    "config-binary": PNG,
    "config-deep": b"[" * 100_000,
}
#: Changes of a good config.json.
FIELDS: dict[str, dict[str, Any]] = {
    "config-10-layers": {"num_hidden_layers": 10},
    "config-1-layer": {"num_hidden_layers": 1},
    "config-0-layers": {"num_hidden_layers": 0},
    "config-negative-layers": {"num_hidden_layers": -3},
    "config-text-layers": {"num_hidden_layers": "two"},
    "config-null-layers": {"num_hidden_layers": None},
    "config-half-layers": {"num_hidden_layers": 1.5},
    "config-huge-width": {"hidden_size": 2**40},
    "config-other-width": {"hidden_size": 64},
    "config-zero-heads": {"num_attention_heads": 0},
    "config-three-heads": {"num_attention_heads": 3},
    "config-list-heads": {"num_attention_heads": [4]},
    "config-vocabulary": {"vocab_size": 7},
    "config-text-vocabulary": {"vocab_size": "many"},
    "config-type": {"model_type": "poem"},
    "config-list-type": {"model_type": ["llama"]},
    "config-null-type": {"model_type": None},
    "config-activation": {"hidden_act": "wave"},
    "config-list-activation": {"hidden_act": [1]},
    "config-context": {"max_position_embeddings": "long"},
    "config-zero-context": {"max_position_embeddings": 0},
    "config-epsilon": {"rms_norm_eps": "small"},
    "config-dtype": {"dtype": "float7"},
    "config-rope": {"rope_parameters": [1, 2], "rope_scaling": "yes"},
    "config-architectures": {"architectures": 5},
    "config-text-config": {"text_config": [1]},
    "config-experts": {"num_local_experts": "several"},
    "config-quantised": {"quantization_config": 4},
    "config-eos": {"eos_token_id": "end"},
    "config-eos-object": {"eos_token_id": {"a": 1}},
}
#: Other files of a model folder.
FILES: dict[str, tuple[str, bytes | None]] = {
    "tokenizer-empty": ("tokenizer.json", b""),
    "tokenizer-list": ("tokenizer.json", b"[]"),
    "tokenizer-object": ("tokenizer.json", b"{}"),
    "tokenizer-binary": ("tokenizer.json", PNG),
    "tokenizer-utf16": ("tokenizer.json", '{"model": {}}'.encode("utf-16")),
    "tokenizer-deep": ("tokenizer.json", b"[" * 100_000),
    "tokenizer-model": ("tokenizer.json", b'{"version": "1.0", "model": {"type": "Poem"}}'),
    "tokenizer-config-list": ("tokenizer_config.json", b"[]"),
    "tokenizer-config-cut": ("tokenizer_config.json", b'{"a":'),
    "tokenizer-config-utf16": ("tokenizer_config.json", '{"a": 1}'.encode("utf-16")),
    "tokenizer-config-class": ("tokenizer_config.json", b'{"tokenizer_class": 5}'),
    "tokenizer-absent": ("tokenizer.json", None),
    "generation-list": ("generation_config.json", b"[]"),
    "generation-cut": ("generation_config.json", b'{"eos'),
    "generation-utf16": ("generation_config.json", '{"eos_token_id": 1}'.encode("utf-16")),
    "generation-eos": ("generation_config.json", b'{"eos_token_id": "end"}'),
}
#: Contents of manifest.json in folders that are not runs.
MANIFESTS: dict[str, bytes] = {
    "run-list": b"[]",
    "run-number": b"7",
    "run-null": b"null",
    "run-empty": b"",
    "run-utf16": '{"study": "x"}'.encode("utf-16"),
    "run-object": b"{}",
    "run-config-list": b'{"study": "x", "config": [], "model": {}}',
    "run-config-keys": b'{"study": "x", "config": {"colour": 1}, "model": {}}',
    "run-config-values": b'{"study": "x", "config": {"model": 5, "values": 3, "judge": []}, "model": []}',
    "run-deep": b"[" * 100_000,
    "run-digits": b'{"study": ' + b"9" * 5000 + b"}",
}
#: Files that are no table of prompts, labels or items, whatever their name says.
TABLES: dict[str, bytes] = {
    "empty": b"",
    "blank": b"\n\n",
    "binary": PNG * 5,
    "utf16": "value,pole,text\npower,+,Rule.\n".encode("utf-16"),
    "columns": b"colour,size\nred,3\n",
    "header": b"value,pole,text,question_1,question_2,label,questionnaire,item,agreement\n",
    "json": b'{"value": ["power"]}',
    "number": b"3",
}
TABLE_ENDINGS = ("csv", "jsonl", "parquet", "tsv", "json")


def build(root: Path) -> Path:
    """Write everything into a new folder.

    `tiny` is a good model (2 layers of 48 neurons, context of 128 tokens), `pairs.csv` good prompts of power, `labels.csv` good
    labelled texts; everything else is bad.
    """
    root.mkdir(exist_ok=True)
    tiny = tiny_checkpoint(root / "tiny", n_layers=2, chat=True)
    pairs = [("power", f"Rule the {thing} yourself.", f"Leave the {thing} to others.") for thing in THINGS]
    pd.DataFrame(pairs, columns=["value", "question_1", "question_2"]).to_csv(root / "pairs.csv", index=False)
    (root / "lambada.jsonl").write_text('{"context": "The dog", "continuation": " barks"}\n')
    labels = [
        (f"{verb} the {thing}.", "power", label, split)
        for split in ("train", "validation", "test")
        for thing in THINGS
        for verb, label in ((f"Rule {split}", 1), (f"Leave {split}", 0))
    ]
    pd.DataFrame(labels, columns=["text", "value", "label", "split"]).to_csv(root / "labels.csv", index=False)
    for name, content in WEIGHTS.items():
        model_folder(tiny, root / name, "model.safetensors", content)
    model_folder(tiny, root / "weights-cut", "model.safetensors", (tiny / "model.safetensors").read_bytes()[:-5])
    model_folder(tiny, root / "weights-half", "model.safetensors", (tiny / "model.safetensors").read_bytes()[:50])
    for name, content in CONFIGS.items():
        model_folder(tiny, root / name, "config.json", content)
    for name, fields in FIELDS.items():
        model_folder(tiny, root / name, "config.json", changed(tiny / "config.json", fields))
    for name, (file, data) in FILES.items():
        model_folder(tiny, root / name, file, data)
    for name, content in MANIFESTS.items():
        (root / name).mkdir()
        (root / name / "manifest.json").write_bytes(content)
        for file in ("results.json", "tables/values.parquet", "tables/generations.parquet"):
            path = root / name / file
            path.parent.mkdir(exist_ok=True)
            path.write_bytes(b"{}")
    for name, content in TABLES.items():
        for ending in TABLE_ENDINGS:
            (root / f"{name}.{ending}").write_bytes(content)
    (root / "bad.gguf").write_bytes(b"no model")
    (root / "cut.gguf").write_bytes(b"GGUF\x03\0\0\0")
    (root / "file").write_text("mine")
    (root / "folder").mkdir()
    (root / "folder.csv").mkdir()
    (root / "full").mkdir()
    (root / "full" / "thesis.tex").write_text("years of work")
    for name, content in (
        ("judge-list", b"[]"),
        ("judge-empty", b""),
        ("judge-utf16", '{"format": 1}'.encode("utf-16")),
    ):
        (root / name).mkdir()
        (root / name / "classifier.json").write_bytes(content)
    for name, content in (("stats", b"[]"), ("stats16", '{"kind": 1}'.encode("utf-16")), ("statsempty", b"")):
        (root / f"{name}.json").write_bytes(content)
        (root / f"{name}.safetensors").write_bytes(content)
    return root


def model_folder(good: Path, target: Path, file: str, content: bytes | None) -> Path:
    """A copy of a model folder with one file changed; None removes it."""
    shutil.copytree(good, target)
    (target / file).unlink(missing_ok=True)
    if content is not None:
        (target / file).write_bytes(content)
    return target


def changed(file: Path, fields: dict[str, Any]) -> bytes:
    """The content of a JSON file with some keys changed."""
    return json.dumps({**json.loads(file.read_text()), **fields}).encode()


Build = Callable[[Path], Path]
