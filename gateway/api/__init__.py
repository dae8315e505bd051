"""The JSON API under /api/v1: strict at its edge, described by what it checks."""
