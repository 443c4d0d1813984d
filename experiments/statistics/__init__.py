"""What numbers of several seeds say: tests, intervals, verdicts."""
