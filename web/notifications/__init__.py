"""Where a user wants to hear of jobs, and what was sent there."""
