"""How tensors of other libraries become ours, and ours theirs: by tables of names."""
