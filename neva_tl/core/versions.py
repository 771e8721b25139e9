"""Versions of the packages that a result depends on."""

from __future__ import annotations

import platform
import sys
from importlib import metadata

#: Recorded packages.
PACKAGES = ("neva_tl", "torch", "transformers", "transformer-lens", "numpy", "pandas", "scipy", "scikit-learn")


def versions() -> dict[str, str]:
    """Return the versions of the packages that a result depends on."""
    table = {"python": platform.python_version(), "platform": sys.platform}
    for name in PACKAGES:
        try:
            table[name] = metadata.version(name)
        except metadata.PackageNotFoundError:
            continue
    return table
