"""What a run costs: parameters, and operations of a step."""
