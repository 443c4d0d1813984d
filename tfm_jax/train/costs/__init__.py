"""What a run costs: said before it runs, counted and traced while it does."""
