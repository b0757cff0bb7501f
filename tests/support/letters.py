"""A vocabulary that a reader decodes in the head: token `n` is byte `n`, 256 is a control token."""

from __future__ import annotations

END = 256


class Letters:
    """Stands where a tokenizer would."""

    def token_bytes(self, id: int) -> bytes:
        """One byte."""
        return b"<end>" if id == END else bytes([id])

    def is_special(self, id: int) -> bool:
        """Only the end is."""
        return id == END
