"""The doctor: looks through a dataset version and says what is wrong with it."""
