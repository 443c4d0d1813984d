"""Small Linen modules, one axis of variation each."""
