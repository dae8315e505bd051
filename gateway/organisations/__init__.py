"""The tree of organisations: who belongs where, who may see what."""
