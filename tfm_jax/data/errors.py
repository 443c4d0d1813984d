"""The one exception of `tfm_jax.data`."""


class DataError(ValueError):
    """The data cannot be used as asked; the message is one line for the user."""
