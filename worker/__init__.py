"""Runs jobs: a thin Celery face, a supervisor, and child processes that do the work."""
