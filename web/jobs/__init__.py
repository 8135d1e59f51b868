"""Jobs: submitting, watching, stopping and deleting them."""
