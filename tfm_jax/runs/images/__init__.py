"""Trained models on images: classes, texts, similarity, attention."""
