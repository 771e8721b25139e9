"""Edits as files of other programs: plain PyTorch, and the control vectors of llama.cpp."""

from neva_tl.editing.export.dispatch import FORMATS, export_edit

__all__ = ["FORMATS", "export_edit"]
