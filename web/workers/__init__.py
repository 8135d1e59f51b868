"""Workers: who is there and what each does."""
