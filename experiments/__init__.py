"""Ablation studies: what is compared, how it is run, what it shows."""
