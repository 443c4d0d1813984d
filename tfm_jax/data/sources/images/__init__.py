"""Images with a class each: where they come from, and how they become pixels."""
