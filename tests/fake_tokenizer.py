"""A tokenizer for tests of text that need no real one."""


class Letters:
    """Writes one letter for each id, and a full stop at the end."""

    def decoder(self) -> "Letters":
        """Itself: letters need no memory."""
        return self

    def add(self, index: int) -> str:
        """The letter of an id."""
        return chr(ord("a") + index % 26)

    def finish(self) -> str:
        """Nothing is held back, but that the end came can be seen."""
        return "."
