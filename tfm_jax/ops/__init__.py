"""Pure functions on arrays: masks, attention, positions, losses, activations."""
