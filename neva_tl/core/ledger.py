"""The ledger of a run folder, with size and sha256 of each file.

With it a changed file is noticed when it is read. A line is appended before its file is renamed into place. A killed process
therefore leaves no file without a line, and a file is good if it matches any of its lines. Several processes append to one
ledger: each line is one write, and has its own checksum.
"""

from __future__ import annotations

import errno
import hashlib
import json
import os
import zlib
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from neva_tl.core.errors import InputError

#: File name of the ledger, in the run folder. Every atomic write below that folder is recorded.
LEDGER = "neva-ledger.jsonl"
#: Files whose content the ledger stores too, because no command can compute it again.
STORED = ("manifest.json",)
#: Bytes from which a file's hash is remembered while the process runs and the file keeps its time stamp.
LARGE = 1 << 24

State = Literal["good", "changed", "missing", "unknown"]


@dataclass(frozen=True)
class Entry:
    """A line of the ledger.

    Attributes:
        size: Bytes of the file.
        sha256: Hash of its content.
        content: Its text, for the names in `STORED`.
    """

    size: int
    sha256: str
    content: str | None = None


class Ledger:
    """The ledger of one run folder.

    Args:
        root: The run folder.
    """

    def __init__(self, root: Path) -> None:
        self.root = root
        self._reset()

    @property
    def file(self) -> Path:
        """Path of the ledger."""
        return self.root / LEDGER

    @classmethod
    def of(cls, file: Path) -> Ledger | None:
        """Return the ledger of the nearest folder above a file, or None.

        Args:
            file: The file, which need not exist.
        """
        for folder in file.absolute().parents:
            if (folder / LEDGER).is_file():
                return _ledgers.setdefault(folder, cls(folder))
        return None

    @classmethod
    def start(cls, root: Path, files: Iterable[Path] = ()) -> Ledger:
        """Return the ledger of a folder, which is created where it is missing.

        Args:
            root: The folder.
            files: Files that a new ledger records as they are.
        """
        root = root.absolute()
        ledger = _ledgers.setdefault(root, cls(root))
        if not ledger.file.is_file():
            ledger.adopt(files)
        return ledger

    # ------------------------------------------------------------ writing

    def adopt(self, files: Iterable[Path]) -> None:
        """Record files as they are.

        Args:
            files: Existing files of the folder.
        """
        self._append([_row(self.name(file), file) for file in files])

    def record(self, target: Path, content: Path) -> None:
        """Record the content that a file is about to have.

        Args:
            target: The file.
            content: File with the content.
        """
        row = _row(self.name(target), content)
        previous = self.entries(row["path"])
        if not previous or previous[-1].sha256 != row["sha256"]:
            self._append([row])

    def forget(self, name: str) -> None:
        """Record that a file need not exist any more.

        Args:
            name: Path within the folder.
        """
        if self.entries(name):
            self._append([{"path": name, "size": 0, "sha256": None}])

    def _append(self, rows: Sequence[Mapping[str, Any]]) -> None:
        data = "".join(_line(row) for row in rows).encode()
        descriptor = os.open(self.file, os.O_RDWR | os.O_APPEND | os.O_CREAT, 0o666)
        try:
            if os.lseek(descriptor, 0, os.SEEK_END):
                os.lseek(descriptor, -1, os.SEEK_END)
                if os.read(descriptor, 1) != b"\n":  # a killed process left half a line
                    data = b"\n" + data
            if os.write(descriptor, data) != len(data):
                raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), str(self.file))
        finally:
            os.close(descriptor)

    # ------------------------------------------------------------ reading

    def name(self, file: Path) -> str:
        """Return the path of a file within the folder, as the ledger writes it.

        Args:
            file: The file.
        """
        return file.absolute().relative_to(self.root).as_posix()

    def names(self) -> list[str]:
        """Return the recorded files."""
        self._refresh()
        return [name for name, entries in self._entries.items() if entries]

    def entries(self, name: str) -> list[Entry]:
        """Return the lines of a file, the latest last.

        Args:
            name: Path within the folder.
        """
        self._refresh()
        return self._entries.get(name, [])

    @property
    def damaged(self) -> int:
        """Number of damaged lines, without a half line at the end."""
        self._refresh()
        return self._damaged

    def state(self, name: str, data: bytes | None = None) -> State:
        """Compare a file with its lines.

        Args:
            name: Path within the folder.
            data: Content of the file, where it has been read.

        Returns:
            `good`, `changed`, `missing`, or `unknown` (the ledger has no line of it).
        """
        file = self.root / name
        if not self.entries(name):
            return "unknown"
        if data is None and not file.exists():
            return "missing"
        if self._matches(name, data):
            return "good"
        # another process may have replaced the file after its lines were read
        return "good" if data is None and self._matches(name, None) else "changed"

    def reason(self, name: str) -> str:
        """Describe how a changed file differs from its last line.

        Args:
            name: Path within the folder.
        """
        file, written = self.root / name, self.entries(name)[-1].size
        size = file.stat().st_size if file.is_file() else 0
        return "its content differs" if size == written else f"{size:,} bytes, {written:,} were written"

    def _matches(self, name: str, data: bytes | None) -> bool:
        file = self.root / name
        try:
            if data is None and not file.is_file():
                return False
            size = file.stat().st_size if data is None else len(data)
            entries = [entry for entry in self.entries(name) if entry.size == size]
            if not entries:
                return False
            sha256 = _digest(file) if data is None else hashlib.sha256(data).hexdigest()
        except OSError as error:
            raise InputError(f"cannot read {file}: {error.strerror or error}") from error
        return any(entry.sha256 == sha256 for entry in entries)

    def _reset(self) -> None:
        self._entries: dict[str, list[Entry]] = {}
        self._damaged = self._offset = self._inode = 0

    def _refresh(self) -> None:
        """Read the lines that were appended since the last call."""
        try:
            about = self.file.stat()
        except OSError:
            self._reset()
            return
        if about.st_ino != self._inode or about.st_size < self._offset:
            self._reset()
            self._inode = about.st_ino
        if about.st_size == self._offset:
            return
        with self.file.open("rb") as file:
            file.seek(self._offset)
            data = file.read()
        complete = data.rfind(b"\n") + 1
        self._offset += complete
        for line in data[:complete].splitlines():
            row = _parsed(line) if line.strip() else {}
            if row is None:
                self._damaged += 1
            elif row:
                self._add(row)

    def _add(self, row: Mapping[str, Any]) -> None:
        if row["sha256"] is None:
            self._entries[row["path"]] = []
        else:
            entry = Entry(row["size"], row["sha256"], row.get("content"))
            self._entries.setdefault(row["path"], []).append(entry)


_ledgers: dict[Path, Ledger] = {}
_digests: dict[tuple[Path, int, int, int], str] = {}


def record(target: Path, content: Path) -> None:
    """Record a file's next content; do nothing outside a run folder.

    Args:
        target: The file.
        content: File with the content.
    """
    ledger = Ledger.of(target)
    if ledger is not None:
        ledger.record(target, content)


def check(file: Path, data: bytes | None = None) -> None:
    """Refuse a file of a run folder that was changed since it was written.

    Files outside a run folder, and those without a line in its ledger, are not checked.

    Args:
        file: The file.
        data: Its content, where it has been read.

    Raises:
        InputError: The file was changed.
    """
    ledger = Ledger.of(file)
    if ledger is None:
        return
    name = ledger.name(file)
    if ledger.state(name, data) == "changed":
        raise InputError(
            f"{file} was changed since it was written ({ledger.reason(name)}): `neva-tl verify {ledger.root}` lists such "
            "files, and the `neva-tl run` that wrote the folder, run again, sets them aside and makes them again"
        )


def checked_bytes(file: Path) -> bytes:
    """Read a file, which is compared with its run's ledger.

    Args:
        file: The file.

    Raises:
        InputError: The file cannot be read, or was changed.
    """
    try:
        data = file.read_bytes()
    except OSError as error:
        raise InputError(f"cannot read {file}: {error.strerror or error}") from error
    check(file, data)
    return data


def _row(name: str, content: Path) -> dict[str, Any]:
    row: dict[str, Any] = {"path": name, "size": content.stat().st_size, "sha256": _digest(content)}
    return {**row, "content": content.read_text(encoding="utf-8", errors="replace")} if name in STORED else row


def _digest(file: Path) -> str:
    about = file.stat()
    key = (file, about.st_ino, about.st_size, about.st_mtime_ns)
    if key in _digests:
        return _digests[key]
    with file.open("rb") as opened:
        digest = hashlib.file_digest(opened, "sha256").hexdigest()
    if about.st_size >= LARGE:
        _digests[key] = digest
    return digest


def _line(row: Mapping[str, Any]) -> str:
    return json.dumps({**row, "crc": _checksum(row)}) + "\n"


def _checksum(row: Mapping[str, Any]) -> int:
    return zlib.crc32(json.dumps(row, sort_keys=True).encode())


def _parsed(line: bytes) -> dict[str, Any] | None:
    """Return the content of a line; None where it is not as it was written."""
    try:
        row = json.loads(line)
        return row if row.pop("crc") == _checksum(row) and {"path", "size", "sha256"} <= row.keys() else None
    except (ValueError, KeyError, AttributeError, TypeError, RecursionError):
        return None
