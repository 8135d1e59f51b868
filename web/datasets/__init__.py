"""Datasets: adding, seeing and deleting them."""
