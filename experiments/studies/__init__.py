"""One file a question; ``get_study(scale)`` of each is data and nothing else."""
