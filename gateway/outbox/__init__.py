"""Everything that leaves: enqueue, gate, journal, send, settle, receipts."""
