"""What a run costs, and arms that cost the same."""
