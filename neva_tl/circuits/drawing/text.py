"""Token text as labels show it."""

from __future__ import annotations


def visible(token: str, longest: int = 16) -> str:
    """Token text for a label: spaces as `·`, control characters as symbols, long ones cut."""
    text = str(token)
    shown = "".join("·" if c == " " else c if c.isprintable() else f"\\x{ord(c):02x}" for c in text)
    return shown if len(shown) <= longest else shown[: longest - 1] + "…"
