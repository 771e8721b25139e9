"""Silence of transformers' own messages."""

from __future__ import annotations

import warnings
from collections.abc import Iterator
from contextlib import contextmanager


def import_bars() -> None:
    """Import `tqdm.auto`, which transformers imports, without its warning in a notebook that lacks ipywidgets.

    tqdm falls back to text bars there, and the bars of neva_tl are text bars everywhere, so that the advice to install
    ipywidgets does not help. tqdm warns once, when it is imported: a user who imports it first still sees the warning.
    """
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="IProgress not found")
        import tqdm.auto  # noqa: F401


@contextmanager
def quiet() -> Iterator[None]:
    """Silence transformers' progress bars and warnings inside the block."""
    import_bars()
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
