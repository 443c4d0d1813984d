"""The train step, the loop around it, and runs that are trained together."""
