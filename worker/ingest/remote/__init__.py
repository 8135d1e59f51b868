"""Fetches what an ingest reads from addresses: web servers and object storage."""
