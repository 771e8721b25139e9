"""The names of `import neva_tl as nv`: the stub is their only list, and editors and type checkers see signatures."""

from __future__ import annotations

import ast
import subprocess
import sys
from pathlib import Path

import pytest

import neva_tl as nv

ROOT = Path(nv.__file__).parents[1]
STUB = Path(nv.__file__).with_suffix(".pyi")


def stub_names() -> set[str]:
    tree = ast.parse(STUB.read_text(encoding="utf-8"))
    names = {
        alias.asname or alias.name for node in tree.body if isinstance(node, ast.ImportFrom) for alias in node.names
    }
    targets = [node.target for node in tree.body if isinstance(node, ast.AnnAssign)]
    targets += [target for node in tree.body if isinstance(node, ast.Assign) for target in node.targets]
    names |= {target.id for target in targets if isinstance(target, ast.Name)}
    return {name for name in names if name.startswith("__") or not name.startswith("_")}


def test_the_stub_and_the_package_have_the_same_names() -> None:
    assert stub_names() == set(nv.__all__) == set(dir(nv))


@pytest.mark.parametrize("name", sorted(nv.__all__))
def test_every_name_can_be_used(name: str) -> None:
    assert getattr(nv, name) is not None


def test_an_unknown_name_is_an_attribute_error() -> None:
    with pytest.raises(AttributeError, match="no attribute 'colect': did you mean 'collect'"):
        nv.colect  # noqa: B018


def test_the_import_takes_under_a_third_of_a_second() -> None:
    code = "import time; t = time.perf_counter(); import neva_tl; print(time.perf_counter() - t)"
    times = [
        float(subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd=ROOT).stdout)
        for _ in range(3)
    ]
    assert min(times) < 0.3


@pytest.mark.parametrize(
    ("call", "parameters"),
    [
        ("nv.load(", {"name", "dtype"}),
        ("nv.steer(", {"model", "pairs", "value", "gain"}),
        ("nv.collect(", {"model", "samples", "pooling"}),
        ("nv.select(", {"stats", "value", "method"}),
    ],
)
def test_jedi_sees_signatures(call: str, parameters: set[str]) -> None:
    jedi = pytest.importorskip("jedi")
    code = f"import neva_tl as nv\n{call}"
    script = jedi.Script(
        code,
        path=str(ROOT / "scratch.py"),
        project=jedi.Project(ROOT, smart_sys_path=False, added_sys_path=[str(ROOT)]),
    )
    (signature,) = script.get_signatures(2, len(call))
    assert parameters <= {parameter.name for parameter in signature.params}


def test_mypy_sees_signatures(tmp_path: Path) -> None:
    pytest.importorskip("mypy")
    file = tmp_path / "user.py"
    file.write_text("import neva_tl as nv\nreveal_type(nv.load)\nreveal_type(nv.steer)\nnv.steer(gain='x')\n")
    # the options of `make types`, whose cache then serves: 2 s for 15
    command = [sys.executable, "-m", "mypy", "--config-file", str(ROOT / "pyproject.toml")]
    done = subprocess.run([*command, str(file)], capture_output=True, text=True, cwd=ROOT, check=False)
    assert 'Revealed type is "def (name: ' in done.stdout and "SteeringResult" in done.stdout
    assert 'Argument "gain" to "steer" has incompatible type "str"' in done.stdout
