"""What a search over ranges shows, beside the tables and figures of every study."""
