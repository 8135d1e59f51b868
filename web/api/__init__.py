"""The HTTP API, version 1: the use cases of the pages, as JSON."""
