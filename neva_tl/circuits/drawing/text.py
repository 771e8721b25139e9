"""Token text for labels."""

from __future__ import annotations


def visible(token: str, longest: int = 16) -> str:
    """Token text for a label: spaces as `·`, control characters as escapes.

    Args:
        token: The token's text.
        longest: Maximum length; longer text is cut and ends with an ellipsis.
    """
    text = str(token)
    label = "".join("·" if c == " " else c if c.isprintable() else f"\\x{ord(c):02x}" for c in text)
    return label if len(label) <= longest else label[: longest - 1] + "…"
