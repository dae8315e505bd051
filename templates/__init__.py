"""Pages of the console and the public, and the texts that members read."""
