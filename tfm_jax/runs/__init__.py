"""A run's directory: checkpoints, log, lease, exit codes; saved, resumed, loaded."""
