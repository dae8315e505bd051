"""Migrations of the broadcasts tables."""
