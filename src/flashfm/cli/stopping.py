"""What Ctrl-C leaves: a command tells it here, and `flashfm.cli.main` prints it in the line that ends the command."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager


@contextmanager
def kept(words: str) -> Iterator[None]:
    """Give an interruption the words that follow "stopped; ".

    Args:
        words: what is kept, such as "the same command goes on".

    Raises:
        KeyboardInterrupt: with these words, where one came.
    """
    try:
        yield
    except KeyboardInterrupt:
        raise KeyboardInterrupt(words) from None
