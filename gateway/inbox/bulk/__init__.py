"""Routes messages by the batch: everything read at once, decided in memory in order,
stored at once."""
