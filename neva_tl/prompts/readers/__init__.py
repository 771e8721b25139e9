"""Readers of public formats: one file each, with `read(path) -> ContrastSet`, listed in `prompts.registry`."""
