"""Edits, one file each; `neva_tl.editing` exports them."""
