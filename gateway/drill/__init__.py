"""Drills that any installation can run: kill it, cut its power, count what is left.

The counting looks at what the peers wrote down, at the database and at the journal,
and at nothing that the sender remembers. docs/reliability.md tells how to read it.
"""
