"""One file a question; ``get_study(scale)`` of each is data and nothing else."""

SCALES = ("cpu", "gpu")  # of a file that names no others
