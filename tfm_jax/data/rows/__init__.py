"""How examples become rows of fixed shape."""
