"""Migrations of the core, written by `make migration` and read before commit."""
