"""Turns what a user uploaded into a verified, immutable dataset version."""
