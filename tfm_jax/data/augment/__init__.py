"""Per-epoch augmentation of images: cropped, changed and mixed while they are read."""
