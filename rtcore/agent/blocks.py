"""What readers of documents share: blocks of text under headings, and the error for files."""

from __future__ import annotations

__all__ = ["TEXT_MAX_CHARS", "Block", "Unreadable"]

Block = tuple[str, str]  # its heading, its text
TEXT_MAX_CHARS = 10 << 20  # of one document: what a file of plain text may have


class Unreadable(Exception):
    """The file cannot be used; ``is_type`` says that another kind of file could."""

    def __init__(self, message: str, *, is_type: bool) -> None:
        super().__init__(message)
        self.is_type = is_type
