"""The `trainyard` command: talks to the API; `up` starts the processes."""
