"""Who works here: accounts, sessions, API tokens, roles."""
