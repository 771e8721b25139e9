"""GGUF files: converted once to an HF folder (fp16 safetensors) in the user's cache.

Uses transformers, not TransformerLens.
"""

from __future__ import annotations

import hashlib
import importlib.util
import os
import shutil
import tempfile
import time
from contextlib import suppress
from pathlib import Path

from neva_tl.core.errors import InputError
from neva_tl.core.files import first_line
from neva_tl.core.locks import lock_file
from neva_tl.core.messages import say
from neva_tl.core.user_cache import cache_folder, mark_used
from neva_tl.models.checkpoint import refuse_incomplete
from neva_tl.models.quiet import quiet

#: Bytes at each end of a file that name its conversion.
_END = 1 << 20


def from_gguf(file: Path) -> Path:
    """Convert a GGUF file once (fp16 safetensors) into the cache folder; return the HF folder.

    The folder's name contains a hash of the file's size, head and tail, so that different files of one name get different
    folders. The write is atomic: a killed conversion leaves nothing under the final name. Peak memory is about twice the size
    of the fp16 weights.

    Args:
        file: The GGUF file.

    Raises:
        InputError: Transformers cannot read this file, or the `gguf` package is missing.
    """
    target = cache_folder() / converted_name(file)
    if _converted(target):
        return target
    if importlib.util.find_spec("gguf") is None:
        raise InputError("reading a .gguf file needs the package gguf: pip install gguf")
    with file.open("rb") as handle:
        if handle.read(4) != b"GGUF":
            raise InputError(f"{file} is not a GGUF file")
    _check(file)
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise InputError(
            f"cannot convert {file.name} into {target}: {error.strerror}; set NEVA_TL_CACHE to a folder"
        ) from error
    with lock_file(target.parent / f".{target.name}.lock", str(target), wait=True):
        if _converted(target):  # by another process, which this one waited for
            return target
        size = file.stat().st_size
        say(
            f"neva_tl: converting {file.name} ({size / 1e6:,.0f} MB) once into {target} (about {20 + size / 12e6:.0f} s)"
        )
        start = time.perf_counter()
        temporary = Path(tempfile.mkdtemp(prefix=f".{target.name}-", dir=target.parent))
        try:
            with quiet():
                _convert(file, temporary)
            os.replace(temporary, target)
        finally:
            shutil.rmtree(temporary, ignore_errors=True)
        say(f"neva_tl: converted {file.name} in {time.perf_counter() - start:.0f} s")
    return target


def _converted(target: Path) -> bool:
    """Whether the cache has a converted checkpoint, which is then marked as used."""
    if not (target / "config.json").is_file():
        return False
    with suppress(OSError):  # a read-only cache
        mark_used(target)
    return True


def converted_name(file: Path) -> str:
    """Return the name of a GGUF file's conversion in the cache: the file's stem and a hash of its size, head and tail.

    Args:
        file: The GGUF file.
    """
    size = file.stat().st_size
    with file.open("rb") as handle:
        head = handle.read(_END)
        handle.seek(max(0, size - _END))
        digest = hashlib.sha256(b"%d" % size + head + handle.read()).hexdigest()[:12]
    return f"{file.stem}-{digest}"


def _check(file: Path) -> None:
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
        # each tensor is rounded to fp16 as it is dequantised: a float32 model in between needs three times the memory
        read, report = AutoModelForCausalLM.from_pretrained(**source, dtype=torch.float16, output_loading_info=True)
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
    with torch.device("meta"):  # allocates nothing: the weights are assigned, not copied
        fresh = type(read)(config)
    fresh.load_state_dict(read.state_dict(), assign=True)
    fresh.tie_weights()
    fresh.half().save_pretrained(out, safe_serialization=True)
    tokenizer.save_pretrained(out)
