"""The process of a run: exit codes, signals, peers, settings of its runtime."""
