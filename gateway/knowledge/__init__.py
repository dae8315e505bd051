"""Knowledge entries and canned answers: what staff may lean on when they answer."""
