"""Text to token ids and back: trained here, or as published."""
