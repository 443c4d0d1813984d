"""One train step over a mesh, and the loop, checkpoints and logs around it."""
