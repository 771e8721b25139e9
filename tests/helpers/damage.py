"""Files changed as disks, copies and editors change them."""

from __future__ import annotations

from pathlib import Path

DAMAGES = ("bit", "cut", "emptied")


def damage(file: Path, kind: str) -> bytes:
    """Change a file in place: one bit flipped, its last third cut off, or emptied. Returns the content it had."""
    before = file.read_bytes()
    position = len(before) * 2 // 5
    content = {
        "bit": before[:position] + bytes([before[position] ^ 1]) + before[position + 1 :],
        "cut": before[: len(before) * 2 // 3],
        "emptied": b"",
    }[kind]
    assert content != before
    file.write_bytes(content)
    return before
