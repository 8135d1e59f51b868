"""The training engine: runs as a child process, knows no server and no database."""
