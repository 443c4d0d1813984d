"""What trained models make of images: classes, texts, attention."""
