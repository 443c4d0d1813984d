"""What a batch means and what is minimised; a task never sees a model class."""
