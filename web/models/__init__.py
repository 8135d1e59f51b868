"""Models: their versions, evaluation and archives."""
