"""Scripts of `analyses/` and `figures/` as modules and as paths."""

from __future__ import annotations

import importlib.util
from pathlib import Path
from types import ModuleType

from helpers.paths import ROOT


def script_path(name: str) -> Path:
    """Path of the script `name` (without `.py`), in whichever folder of `analyses/` it is."""
    (path,) = (ROOT / "analyses").rglob(f"{name}.py")
    return path


def load_script(name: str) -> ModuleType:
    """Import a script of `analyses/` as a new module; nothing is registered in `sys.modules`."""
    spec = importlib.util.spec_from_file_location(f"neva_{name}", script_path(name))
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def draw_figure(name: str, arguments: list[str]) -> int:
    """Exit status of `python figures/NAME.py ARGUMENTS`, run in this process."""
    from neva_tl.plots.paper import script

    path = ROOT / "figures" / f"{name}.py"
    spec = importlib.util.spec_from_file_location(f"neva_figure_{name}", path)
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return script(str(path), module.draw, arguments)
