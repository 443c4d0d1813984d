"""What models are made of that several families have."""
