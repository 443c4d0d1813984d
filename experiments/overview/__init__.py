"""What all studies have found: one file of numbers, and the pages made of it."""
