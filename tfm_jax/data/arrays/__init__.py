"""Arrays of any size: written piece by piece, mapped into memory, gathered."""
