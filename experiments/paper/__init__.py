"""The studies of one question as a paper: page, figures and every number in them."""
