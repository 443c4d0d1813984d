"""What a run is: the sections of its configuration, resolved and checked."""
