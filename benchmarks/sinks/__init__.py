"""Programs that take what the product sends, each in a process of its own."""
