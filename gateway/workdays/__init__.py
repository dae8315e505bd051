"""The working-day calendar: what the State Council published, what staff corrected."""
