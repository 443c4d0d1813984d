"""The one exception of `tfm_jax.data`."""

import contextlib
from collections.abc import Iterator


class DataError(ValueError):
    """The data cannot be used as asked; the message is one line for the user."""


@contextlib.contextmanager
def within(place: object) -> Iterator[None]:
    """Puts ``place`` in front of what a DataError inside of the context says."""
    try:
        yield
    except DataError as error:
        raise DataError(f"{place}: {error}") from error
