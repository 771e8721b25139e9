"""Bad input on the command line: exit status 2, one line that names it, before any work, and nothing written."""

from __future__ import annotations

import errno
import os
import shlex
import subprocess
import sys
import warnings
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, get_args, get_type_hints

import pytest

from helpers import bad_inputs
from helpers.paths import ROOT
from neva_tl.cli.main import app

Call = Callable[..., tuple[int, str, str]]

#: A valid start of each command, to which one bad option is added. `{w}` is the folder of `bad_inputs.build`.
BASE: dict[str, str] = {
    "run": "run --model {w}/tiny --prompts pairs:{w}/pairs.csv --value power",
    "select": "select --value power --model {w}/tiny --prompts pairs:{w}/pairs.csv",
    "steer": "steer {w}/tiny pairs:{w}/pairs.csv --value power",
    "chat": "chat --edit {w}/folder",
    "card": "card {w}/folder",
    "export": "export {w}/folder {w}/exported",
    "generate": "generate hi --model {w}/tiny --prompts pairs:{w}/pairs.csv --value power",
    "leakage": "leakage --model {w}/tiny --prompts pairs:{w}/pairs.csv --value power",
    "layers": "layers --model {w}/tiny --prompts pairs:{w}/pairs.csv --value power",
    "circuit": "circuit --value power --model {w}/tiny --prompts pairs:{w}/pairs.csv",
    "train-demo": "train-demo --steps 1",
    "collect": "collect --model {w}/tiny --prompts pairs:{w}/pairs.csv",
    "prompts write": "prompts write {w}/tiny --concept power",
    "annotate": "annotate {w}/folder",
    "capability": "capability --model {w}/tiny --set lambada={w}/lambada.jsonl",
    "train-judge": "train-judge --data {w}/labels.csv --features tfidf",
    "validate-judge": "validate-judge --judge wordlist --labels {w}/labels.csv",
    "profile": "profile --model {w}/tiny --prompts pairs:{w}/pairs.csv --value power",
}


def options() -> Iterator[tuple[str, str, Any]]:
    """Command, first name and type of every option."""
    commands = [("", command) for command in app.registered_commands]
    for group in app.registered_groups:
        assert group.typer_instance is not None
        commands += [(f"{group.name} ", command) for command in group.typer_instance.registered_commands]
    for prefix, command in commands:
        assert command.callback is not None
        name = prefix + (command.name or command.callback.__name__)
        for hint in get_type_hints(command.callback, include_extras=True).values():
            for option in getattr(hint, "__metadata__", ()):
                # typer takes the first of several positional arguments for the default
                names = [str(option.default), *(option.param_decls or ())]
                if names[0].startswith("--"):
                    yield name, names[0].partition("/")[0], hint.__origin__


#: Texts that are no number of the kind.
NOT_WHOLE = ("", "1.5", "nan", "-1")
NOT_REAL = ("", "nan", "inf", "1,5")


def numbers() -> list[tuple[str, str]]:
    """Every option that takes a number, with what is none."""
    out = []
    for command, option, kind in options():
        types = {kind, *get_args(kind)}
        values = NOT_WHOLE if int in types else NOT_REAL if float in types else ()
        out += [(f"{BASE[command]} {option}={shlex.quote(value)}", option) for value in values]
    return out


def test_numbers_are_tried_everywhere() -> None:
    assert len(numbers()) > 120 and len(QUICK) > 500


def test_every_command_has_a_case() -> None:
    names = {command.name or getattr(command.callback, "__name__", "") for command in app.registered_commands}
    assert names == {*BASE, *(line.split()[0] for line, _ in COMPLETE)} & names


SEEDS = [
    (f"{base} --seed {seed}", "--seed") for base in BASE.values() for seed in (2**63, 2**64, 10**30, -(2**63))
]  # fmt: skip

#: Commands whose output is a file or a pair of files; the others write a folder.
FILE_OUT = {
    "select": "n",
    "generate": "t.txt",
    "circuit": "c.html",
    "collect": "s",
    "prompts write": "p.parquet",
    "validate-judge": "c.json",
    "profile": "p.csv",
}
#: annotate writes into its run folder, chat writes nothing, export names its output by position.
OUTPUTS = [
    case
    for command, base in BASE.items()
    if command not in ("annotate", "chat", "export")
    for case in (
        (f"{base} --out ''", "--out"),
        (f"{base} --out {{w}}/file/below/{FILE_OUT.get(command, 'x')}", "file"),
        (f"{base} --out /proc/nothing/{FILE_OUT.get(command, 'x')}", "/proc"),
        *(
            (
                (f"{base} --out .", "'.'"),
                (f"{base} --out /", "'/'"),
                (f"{base} --out ..", "'..'"),
                (f"{base} --out {{w}}/folder", "folder"),
                (f"{base} --out {{w}}/folder/", "folder"),
                (f"{base} --out /dev/full", "/dev/full"),
            )
            if command in FILE_OUT
            else (
                (f"{base} --out /", "/"),
                (f"{base} --out {{w}}/file", "is a file"),
                (f"{base} --out {{w}}/full", "not empty"),
                (f"{base} --out /dev/null", "/dev/null"),
            )
        ),
    )
]

MODEL_COMMANDS = tuple(name for name in BASE if "--model" in BASE[name])
#: Commands that can load a model with matrix products in bfloat16 (`chat` too, whose --edit is not one here).
MATMUL = ("run", "collect", "steer", "generate", "leakage", "layers", "circuit", "capability")
#: Every command that loads a model, with names that are none, and with other unknown names.
NAMES = (
    [
        case
        for command in MODEL_COMMANDS
        for case in (
            (f"{BASE[command]} --model ''", "model"),
            (f"{BASE[command]} --model no-such-model", "no-such-model"),
            (f"{BASE[command]} --model {{w}}/nowhere", "nowhere"),
            (f"{BASE[command]} --model {{w}}/file", "file"),
            (f"{BASE[command]} --model {{w}}/config-list", "config.json"),
            (f"{BASE[command]} --dtype int3", "int3"),
            (f"{BASE[command]} --dtype ''", "dtype"),
        )
    ]
    + [(f"{BASE[command]} --matmul bf17", "bf17") for command in (*MATMUL, "chat")]
    + [(f"{BASE[command]} --dtype bfloat16 --matmul bf16", "in float32") for command in MATMUL]
    + [
        case
        for command in MODEL_COMMANDS
        if command != "capability"
        for case in (
            *(
                ()
                if command == "collect"
                else [(f"{BASE[command]} --value {name}", "value") for name in ("greed", "''")]
            ),
            (f"{BASE[command]} --prompts ''", "prompts"),
            (f"{BASE[command]} --prompts poems", "poems"),
            (f"{BASE[command]} --prompts pairs:", "pairs:"),
            (f"{BASE[command]} --prompts pairs:{{w}}/nowhere.csv", "nowhere.csv"),
            (f"{BASE[command]} --prompts persona:{{w}}/nowhere", "nowhere"),
            (f"{BASE[command]} --prompts pairs:{{w}}/columns.csv", "columns.csv"),
        )
    ]
)
OTHER_COMMANDS = [
    ("run --judge oracle", "oracle"),
    ("run --judge ''", "judge"),
    ("run --judge classifier", "classifier"),
    ("run --judge classifier:", "classifier"),
    ("run --judge classifier:{w}/nowhere", "nowhere"),
    ("run --judge classifier:{w}/file", "file"),
    ("run --judge classifier:{w}/folder", "folder"),
    ("run --judge classifier:{w}/judge-list", "judge-list"),
    ("run --judge classifier:{w}/judge-empty", "judge-empty"),
    ("run --judge classifier:{w}/judge-utf16", "judge-utf16"),
    ("run --judge hf:no-such-judge", "no-such-judge"),
    ("run --judge hf:{w}/folder", "folder"),
    ("run --judge hf:{w}/tiny", "tiny"),
    ("run --judge hf:{w}/config-list", "config-list"),
    ("run --judge hf:{w}/config-utf16", "config-utf16"),
    ("run --judge wordlist:much", "much"),
    ("run --judge exact", "exact"),
    ("run --judge chat:", "chat"),
    ("run --judge chat:m@ftp://x", "http"),
    ("run --judge chat:m@http://localhost:1/v1#key=NEVA_NO_SUCH_KEY", "NEVA_NO_SUCH_KEY"),
    ("run --judge chat:m@http://localhost:1/v1#key=none", "localhost:1"),
    ("leakage --judge classifier:{w}/nowhere", "nowhere"),
    ("leakage --judge hf:{w}/folder", "folder"),
    ("leakage --judge oracle", "oracle"),
    ("leakage --judge classifier:{w}/judge-list --labels {w}/labels.csv", "judge-list"),
    ("leakage --labels {w}/labels.csv", "--judge"),
    ("leakage --judge wordlist --labels {w}/nowhere.csv", "nowhere.csv"),
    ("leakage --judge wordlist --labels {w}/columns.csv", "columns.csv"),
    ("run --profile huge", "huge"),
    ("run --profile ''", "profile"),
    ("run --method magic", "magic"),
    ("run --method ''", "method"),
    ("run --selector magic", "magic"),
    ("run --selector ''", "selector"),
    ("run --scope some", "some"),
    ("run --gate wide", "wide"),
    ("leakage --method magic", "magic"),
    ("leakage --profile huge", "huge"),
    ("leakage --gain 0", "gain"),
    ("leakage --gain -1", "gain"),
    ("select --value hedonism", "hedonism"),
    ("circuit --value hedonism", "hedonism"),
    ("generate --value hedonism", "hedonism"),
    ("profile --value hedonism", "hedonism"),
    ("select --method magic", "magic"),
    ("select --method ''", "method"),
    ("select --stats {w}/nowhere", "nowhere"),
    ("select --stats {w}/stats", "stats"),
    ("select --stats {w}/stats16", "stats16"),
    ("select --stats {w}/statsempty", "statsempty"),
    ("select --stats {w}/folder", "folder"),
    ("select --stats ''", "--stats"),
    ("circuit --method magic", "magic"),
    ("circuit --share 0", "--share"),
    ("circuit --share 1.5", "--share"),
    ("circuit --size 1000000", "104"),
    ("circuit --size 105", "104"),
    ("circuit --out c.gif", "c.gif"),
    ("circuit --out c", "c"),
    ("generate --method magic", "magic"),
    ("generate --scope some", "some"),
    ("generate --gate wide", "wide"),
    ("generate --tokens 500", "128"),
    ("collect --split dev", "dev"),
    ("collect --split ''", "split"),
    ("collect --pooling first", "first"),
    ("collect --pooling ''", "pooling"),
    ("collect --stop-at-layer 99", "99"),
    ("capability --set nowhere", "nowhere"),
    ("capability --set ''", "--set"),
    ("capability --set =", "="),
    ("capability --set mmlu={w}/nowhere", "nowhere"),
    ("capability --set mmlu={w}/folder", "mmlu"),
    ("capability --set lambada={w}/empty.jsonl", "empty.jsonl"),
    ("capability --set lambada={w}/binary.jsonl", "binary.jsonl"),
    ("capability --data {w}/nowhere", "nowhere"),
    ("capability --data ''", "--data"),
    ("capability --span middle", "middle"),
    ("capability --method neva", "--run"),
    ("capability --value power", "--run"),
    ("capability --gain 1", "--run"),
    ("train-judge --data {w}/nowhere.csv", "nowhere.csv"),
    ("train-judge --data ''", "--data"),
    ("train-judge --features poems", "poems"),
    ("train-judge --data {w}/folder", "folder"),
    ("train-judge --data persona:{w}/folder", "folder"),
    ("train-judge --data {w}/folder.csv", "folder.csv"),
    ("validate-judge --judge oracle", "oracle"),
    ("validate-judge --judge classifier:{w}/nowhere", "nowhere"),
    ("validate-judge --judge logprob", "logprob"),
    ("validate-judge --judge hf:{w}/tiny", "tiny"),
    ("validate-judge --labels {w}/nowhere.csv", "nowhere.csv"),
    ("validate-judge --labels ''", "--labels"),
    ("validate-judge --labels {w}/folder", "folder"),
    ("validate-judge --split dev", "dev"),
    ("validate-judge --threshold 2", "--threshold"),
    ("validate-judge --threshold -1", "--threshold"),
    ("profile --model demo", "demo"),
    ("profile --questionnaire {w}/nowhere.csv", "nowhere.csv"),
    ("profile --questionnaire ''", "--questionnaire"),
    ("profile --questionnaire {w}/folder", "folder"),
    ("profile --only PVQ40", "--questionnaire"),
    ("profile --scope generated", "generated"),
    ("profile --method magic", "magic"),
    ("profile --out p.xlsx", "p.xlsx"),
    ("train-demo --steps 0", "steps"),
    ("train-demo --threads 0", "threads"),
    ("train-demo --threads 1000000", "threads"),
    ("train-demo --start {w}/nowhere", "nowhere"),
    ("train-demo --start {w}/tiny", "tiny"),
    ("train-demo --start ''", "--start"),
    ("train-demo --out {w}/tiny", "tiny"),
    ("annotate --annotator ''", "--annotator"),
    ("annotate --annotator ../me", "../me"),
    ("annotate --n 1", "--n"),
    *((f"capability --run {{w}}/{name}", name) for name in ("nowhere", "file", "folder", *bad_inputs.MANIFESTS)),
    ("capability --run ''", "--run"),
    *((f"run --out {{w}}/{name}", name) for name in bad_inputs.MANIFESTS),
    *((f"layers --out {{w}}/{name}", name) for name in ("run-list", "run-utf16", "run-config-values")),
    *((f"leakage --out {{w}}/{name}", name) for name in ("run-list", "run-utf16", "run-config-values")),
    *((f"collect --prompts {{w}}/{name}.{end}", f"{name}.{end}")
      for name in bad_inputs.TABLES for end in ("csv", "jsonl", "parquet")),
    *((f"collect --prompts {kind}:{{w}}/{name}.csv", f"{name}.csv")
      for kind in ("pairs", "valuebench") for name in bad_inputs.TABLES),
    *((f"collect --prompts {kind}:{{w}}/{name}", name)
      for kind in ("persona", "valueeval", "valuebench", "pairs") for name in ("folder", "file")),
    *((f"train-judge --data {{w}}/{name}.{end}", f"{name}.{end}") for name in bad_inputs.TABLES for end in ("csv", "jsonl")),
    *((f"validate-judge --labels {{w}}/{name}.{end}", f"{name}.{end}")
      for name in bad_inputs.TABLES for end in ("csv", "jsonl")),
    *((f"profile --questionnaire {{w}}/{name}.csv", f"{name}.csv") for name in bad_inputs.TABLES),
]  # fmt: skip
#: Other arguments, complete.
COMPLETE = [
    *((f"annotate {{w}}/{name}", name) for name in ("nowhere", "file", "folder", *bad_inputs.MANIFESTS)),
    ("annotate ''", "RUN"),
    ("models fetch", "fetch NAME"),
    ("models remove smollm2", "remove smollm2"),
    ("models fetch smollm2 no-such-model", "no-such-model"),
    ("generate", "prompt"),
    ("select", "--value"),
    ("circuit", "--value"),
    ("annotate", "RUN"),
    ("train-judge", "--data"),
    ("validate-judge --judge wordlist", "--labels"),
    ("generate hi --model demo:{w}/tiny", "tiny"),
    ("generate hi --model demo:", "demo:"),
    ("generate hi --model {w}/bad.gguf", "bad.gguf"),
    ("generate hi --model {w}/cut.gguf", "cut.gguf"),
    ("generate hi --model nowhere.gguf", "nowhere.gguf"),
    ("generate hi --model org/name", "org/name"),
    ("generate hi --model ../x/y", "../x/y"),
    *(
        (f"{command} --model {{w}}/tiny --prompts pairs:{{w}}/pairs.csv --value hedonism", "hedonism")
        for command in ("run", "leakage", "layers")
    ),
    ("capability --model {w}/tiny", "--set"),
    ("capability --model {w}/tiny --data {w}/folder", "folder"),
    ("capability --model {w}/tiny --set lambada", "lambada"),
    ("bake", "model"),
    ("bake {w}/tiny {w}/nowhere out", "nowhere"),
    ("bake {w}/tiny {w}/folder out", "folder"),
    ("bake {w}/tiny {w}/folder {w}/full", "not empty"),
    ("bake {w}/tiny {w}/folder {w}/file", "is a file"),
    ("bake {w}/tiny {w}/folder /dev/null", "/dev/null"),
    ("bake {w}/tiny {w}/folder ''", "OUT"),
    ("bake {w}/tiny {w}/folder out --dtype int3", "int3"),
    ("verify", "RUN"),
    ("verify ''", "RUN"),
    *((f"verify {{w}}/{name}", name) for name in ("nowhere", "file", "folder")),
    ("inspect", "FILE"),
    ("inspect ''", "FILE"),
    *((f"inspect {{w}}/{name}", name) for name in ("nowhere", "file", "folder")),
    ("card", "PATH"),
    *((f"card {{w}}/{name}", name) for name in ("nowhere", "file", "folder", *bad_inputs.MANIFESTS)),
    ("report", "RUN"),
    ("paper", "RUN"),
    ("report ''", "RUN"),
    *(
        (f"{command} {{w}}/{name}", name)
        for command in ("report", "paper")
        for name in ("nowhere", "file", "folder", *bad_inputs.MANIFESTS)
    ),
    ("compare", "RUN"),
    ("compare {w}/folder", "OTHER"),
    ("compare {w}/folder ''", "OTHER"),
    ("compare {w}/nowhere {w}/folder", "nowhere"),
    ("compare {w}/folder {w}/folder --out ''", "--out"),
    ("compare {w}/folder {w}/folder --out p.xlsx", "p.xlsx"),
    ("compare {w}/folder {w}/folder --out {w}/folder", "folder"),
    *((f"compare {{w}}/{name} {{w}}/folder", name) for name in bad_inputs.MANIFESTS),
    ("cache --fly", "--fly"),
    ("cache everything", "everything"),
    ("--quiet --verbose cache", "exclude each other"),
    ("-q run --model {w}/nowhere", "nowhere"),
    ("--verbose run --model {w}/nowhere", "nowhere"),
    ("--fly run", "--fly"),
    ("--quiet", "command"),
    ("fly", "fly"),
    ("run --fly", "--fly"),
    ("chat", "--edit"),
    ("chat --edit {w}/nowhere", "nowhere"),
    ("chat --edit {w}/file", "file"),
    ("chat --edit {w}/full", "does not hold an edit"),
    ("generate hi --edit {w}/nowhere", "nowhere"),
    ("generate hi --allow-mismatch", "--edit"),
    ("export", "EDIT"),
    ("export {w}/folder", "OUT"),
    ("export '' {w}/exported", "EDIT"),
    ("export {w}/folder ''", "OUT"),
    ("export {w}/nowhere {w}/exported", "nowhere"),
    ("export {w}/file {w}/exported", "file"),
    ("export {w}/full {w}/exported", "does not hold an edit"),
    ("export {w}/full {w}/exported --format onnx", "onnx"),
    ("export {w}/full {w}/full", "not empty"),
    ("export {w}/full {w}/file", "is a file"),
    ("export {w}/full {w}/folder --format gguf", "it is a folder"),
    ("export {w}/full /proc/nothing/x.gguf --format gguf", "/proc"),
    ("generate hi --edit {w}/full", "does not hold an edit"),
    ("steer", "'model'"),
    ("steer no-such-model pairs:{w}/pairs.csv --value power", "no-such-model"),
    ("steer {w}/nowhere pairs:{w}/pairs.csv --value power", "nowhere"),
    ("steer {w}/tiny {w}/nowhere.csv", "nowhere.csv"),
    ("steer {w}/tiny poems", "poems"),
    ("steer {w}/tiny pairs:{w}/pairs.csv --value greed", "greed"),
    ("steer {w}/tiny pairs:{w}/pairs.csv --value power --method magic", "magic"),
    ("steer {w}/tiny pairs:{w}/pairs.csv --value power --method role", "no dose"),
    ("steer {w}/tiny pairs:{w}/pairs.csv --value power --gain -1", "above 0"),
    ("steer {w}/tiny pairs:{w}/pairs.csv --value power --gain 0", "above 0"),
    ("steer {w}/tiny pairs:{w}/pairs.csv --value power --selector magic", "magic"),
    ("steer {w}/tiny pairs:{w}/pairs.csv --value power --scope some", "some"),
    ("steer {w}/tiny pairs:{w}/pairs.csv --value power --gate shut", "shut"),
    ("steer {w}/tiny", "concept="),
    ("steer {w}/tiny pairs:{w}/pairs.csv --concept thrift", "leave out concept"),
    ("steer {w}/tiny pairs:{w}/pairs.csv --value power --definition x", "definition"),
    ("steer {w}/tiny --concept thrift", "no judge knows thrift"),
    ("steer {w}/tiny --concept ''", "--concept"),
    ("steer {w}/tiny --concept schwartz", "is a theory"),
    ("steer {w}/tiny --concept power --value power", "value"),
    ("steer {w}/tiny --concept power --judge oracle", "oracle"),
    ("steer {w}/tiny --concept power --method role", "no dose"),
    ("steer {w}/tiny --concept power --gain 0", "above 0"),
    ("steer {w}/tiny --concept power --selector magic", "magic"),
    ("prompts fly", "fly"),
    ("prompts write", "'model'"),
    ("prompts write {w}/nowhere --concept power", "nowhere"),
    ("prompts write {w}/tiny", "--concept"),
    ("prompts write {w}/tiny --concept ''", "--concept"),
    ("prompts write {w}/tiny --concept a/b --judge wordlist", "a/b"),
    ("prompts write {w}/tiny --concept power --theory schwartz", "either"),
    ("prompts write {w}/tiny --theory greek", "greek"),
    ("prompts write {w}/tiny --theory schwartz --value greed", "greed"),
    ("prompts write {w}/tiny --theory schwartz --definition x", "definition"),
    ("prompts write {w}/tiny --concept thrift", "no judge knows thrift"),
    ("prompts write {w}/tiny --concept power --judge oracle", "oracle"),
    ("prompts write {w}/tiny --concept power --judge logprob", "logprob"),
    ("prompts write {w}/tiny --concept power --questions 500", "500"),
    ("prompts write {w}/tiny --concept power --questions 3", "--questions"),
    ("prompts write {w}/tiny --concept power --temperature -1", "--temperature"),
    ("prompts write {w}/tiny --concept power --temperature 0", "temperature above 0"),
    ("prompts write {w}/tiny --concept power --dtype int3", "int3"),
    ("prompts write {w}/tiny --concept power --out p.xlsx", "p.xlsx"),
]


def extended(cases: list[tuple[str, str]]) -> list[tuple[str, str]]:
    """The cases with the valid start of their command."""
    out = []
    for line, says in cases:
        command, _, rest = line.partition(" ")
        out.append((f"{BASE[command]} {rest}", says))
    return out


QUICK = [*numbers(), *SEEDS, *OUTPUTS, *NAMES, *extended(OTHER_COMMANDS), *COMPLETE]
#: Model folders: config.json, weights, tokenizer and generation settings that are none.
MODELS = [
    *bad_inputs.WEIGHTS,
    "weights-cut",
    "weights-half",
    *bad_inputs.CONFIGS,
    *bad_inputs.FIELDS,
    *bad_inputs.FILES,
]


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """The folder of bad inputs; no command may change it."""
    root = bad_inputs.build(tmp_path_factory.mktemp("world") / "w")
    before = listing(root)
    yield root
    assert listing(root) == before


@pytest.fixture
def refused(call: Call, world: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[[str], str]:
    """Run a command line that must be refused in an empty current folder; returns the one line."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("NEVA_TL_CACHE", str(tmp_path / "cache"))

    def run(line: str) -> str:
        status, out, err = call(*shlex.split(line.format(w=world)))
        lines = [text for text in err.replace("\r", "\n").splitlines() if text.strip()]
        assert status == 2, f"{status}: {out}{err}"
        assert out == "" and len(lines) == 1, err
        assert lines[0].startswith("neva-tl") and "Traceback" not in err and "Error" not in lines[0], err
        assert listing(tmp_path) == []
        return lines[0]

    return run


def listing(folder: Path) -> list[tuple[str, int]]:
    """All files of a folder with their sizes."""
    return sorted((str(path), path.stat().st_size if path.is_file() else -1) for path in folder.rglob("*"))


#: What may be found only when the model is loaded: its sizes.
AFTER_LOADING = ("--size", "--tokens 500", "--stop-at-layer 99")


@pytest.mark.parametrize(("line", "says"), QUICK, ids=[line for line, _ in QUICK])
def test_refused_before_any_work(
    refused: Callable[[str], str], monkeypatch: pytest.MonkeyPatch, line: str, says: str
) -> None:
    if not any(option in line for option in AFTER_LOADING):
        monkeypatch.setattr("neva_tl.models.loading._boot", lambda *args: pytest.fail("loaded a model first"))
    monkeypatch.setattr(
        "neva_tl.activations.batch_runner.BatchRunner.batch", lambda *args, **kw: pytest.fail("collected first")
    )
    assert says in refused(line)


@pytest.mark.parametrize("name", MODELS)
def test_no_model_folder(refused: Callable[[str], str], name: str) -> None:
    line = refused(f"generate hi --model {{w}}/{name}")
    assert name in line


# ---------------------------------------------------------------- disks, warnings, processes


def test_a_full_disk_is_found_before_the_work(
    call: Call, world: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(**_: Any) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr("tempfile.TemporaryFile", full)
    for command in BASE:
        if command not in ("annotate", "chat"):
            out = tmp_path / FILE_OUT.get(command, "x")
            argv = shlex.split(BASE[command].format(w=world))
            argv = [*argv[:-1], str(out)] if command == "export" else [*argv, "--out", str(out)]
            status, printed, err = call(*argv)
            assert status == 2 and printed == "" and err.count("\n") == 1, err
            assert "is not writable (No space left on device)" in err and str(out) in err
    assert listing(tmp_path) == []


def test_a_disk_that_fills_up_during_the_work(
    call: Call, world: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(source: Any, target: Any) -> None:
        raise OSError(errno.ENOSPC, "No space left on device", str(target))

    monkeypatch.setattr("os.replace", full)
    out = tmp_path / "text.txt"
    status, _, err = call("generate", "hi", "--model", world / "tiny", "--tokens", 2, "--out", out)
    assert status == 1 and listing(tmp_path) == []
    assert err.splitlines()[-1].startswith("neva-tl: cannot write ") and "No space left on device" in err
    assert "Traceback" not in err and "OSError" not in err


def test_warnings_follow_the_result_and_never_precede_an_error(
    call: Call, world: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import neva_tl as nv
    from neva_tl.models import loading

    def warn_and_load(name: Any, **options: Any) -> Any:
        for _ in range(2):
            warnings.warn("a library's\nwarning")
        return loading.load(name, **options)

    monkeypatch.setitem(nv.__dict__, "load", warn_and_load)
    status, _, err = call("generate", "hi", "--model", world / "config-list")
    assert status == 2 and err.count("\n") == 1 and "config.json" in err
    status, out, err = call("generate", "hi", "--model", world / "tiny", "--tokens", 2)
    assert status == 0 and "[unedited]" in out and err == "warning: a library's warning\n"


def test_processes_are_capped_at_the_cores(world: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from neva_tl.study import Study
    from neva_tl.study.run import study as module
    from neva_tl.study.run import workers

    started: list[int] = []
    monkeypatch.setattr(workers, "cores", lambda: 3)
    monkeypatch.setattr(module.StudyWorkspace, "open", lambda *args, **options: None)

    def measure(workspace: Any, *, workers: int, progress: bool) -> None:
        started.append(workers)
        raise KeyboardInterrupt

    monkeypatch.setattr(module, "measure_all", measure)
    study = Study(str(world / "tiny"), prompts=f"pairs:{world / 'pairs.csv'}", values=("power",))
    for requested, used in ((1000, 3), (3, 3), (1, 1)):
        with pytest.raises(KeyboardInterrupt):
            study.run(tmp_path / str(requested), workers=requested)
        assert started.pop() == used


def test_large_seeds_are_seeds(call: Call, world: Path, tmp_path: Path) -> None:
    """The largest 64-bit seed reaches every generator, scikit-learn's of 32 bits included."""
    argv = ("train-judge", "--data", world / "labels.csv", "--features", "tfidf", "--out", tmp_path / "judge")
    status, _, err = call(*argv, "--seed", 2**63 - 1)
    assert status == 0, err
    prompts = ("--model", world / "tiny", "--prompts", f"pairs:{world / 'pairs.csv'}")
    status, _, err = call("select", "--value", "power", *prompts, "--method", "probe", "--k", 3, "--seed", 2**63 - 1)
    assert status == 0, err


def test_stderr_of_a_real_process_is_one_line(world: Path, tmp_path: Path) -> None:
    """In a process of its own no test framework holds back what libraries log."""
    names = ["config-list-heads", "config-10-layers", "tokenizer-list", "weights-cut", "config-rope"]
    code = f"""
import sys
from neva_tl.cli.main import main
for name in {names!r}:
    try:
        main(["generate", "hi", "--model", {str(world)!r} + "/" + name])
    except SystemExit as end:
        assert end.code == 2, (name, end.code)
"""
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "HF_HUB_OFFLINE": "1"}
    result = subprocess.run(
        [sys.executable, "-c", code],
        capture_output=True,
        text=True,
        timeout=120,
        env=environment,
        cwd=tmp_path,
        check=False,
    )
    lines = result.stderr.splitlines()
    assert result.returncode == 0 and result.stdout == "" and len(lines) == len(names), result.stderr
    assert all(name in line for name, line in zip(names, lines, strict=True))


@pytest.mark.parametrize(
    "name", ["org/model", "gpt2", "meta-llama/Llama-3.2-1B", "a/b/c", "org/", "--", "Ω/ω", "org model"]
)
def test_hub_names_offline(call: Call, monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    """Without a network: one line, at once, that says what to do, whether the hub is switched off or does not answer."""
    for offline in ("1", ""):
        monkeypatch.setenv("HF_HUB_OFFLINE", offline)
        monkeypatch.setattr("neva_tl.models.sources.reachable", lambda *_: False)
        status, out, err = call("generate", "hi", f"--model={name}")
        assert (status, out) == (2, "") and err.count("\n") == 1, err
        assert name in err and ("'smollm2'" in err or "local" in err)
