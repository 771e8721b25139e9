"""Write constraints-oldest.txt: the lower bounds of pyproject.toml, with the rest of the set as new as they allow.

    pip install uv && python requirements/oldest.py

Torch is left out: `make test-oldest` installs the tested version, since older releases for Linux come with GPU libraries only.
"""

from __future__ import annotations

import re
import subprocess
from pathlib import Path

HERE = Path(__file__).resolve().parent
TOOLS = ("beartype", "hypothesis", "pytest", "pytest-timeout", "pytest-xdist")
HEAD = "# The lower bounds of pyproject.toml (Python 3.11, TransformerLens 3.9), by requirements/oldest.py: make test-oldest.\n"
LEFT_OUT = re.compile(r"(torch|triton|nvidia-.*|cuda-.*)==")


def main() -> None:
    """Resolve and write the file."""
    tested = (HERE / "constraints.txt").read_text(encoding="utf-8").splitlines()
    pins = [line for line in tested if line.partition("==")[0].lower() in TOOLS or line.startswith("torch==")]
    command = [
        "uv",
        "pip",
        "compile",
        "pyproject.toml",
        "-",
        "--resolution",
        "lowest-direct",
        "--python-version",
        "3.11",
    ]
    run = subprocess.run(
        [*command, "--no-header", "--no-annotate", "--quiet"],
        input="\n".join(pins), cwd=HERE.parent, capture_output=True, text=True, check=True,
    )  # fmt: skip
    lines = [line for line in run.stdout.splitlines() if not LEFT_OUT.match(line)]
    (HERE / "constraints-oldest.txt").write_text(HEAD + "\n".join(lines) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
