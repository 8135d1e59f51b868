"""Who may come in: sign-in, links, accounts, API tokens, users."""
