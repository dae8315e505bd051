"""What goes to many: activity notices, the daily Q&A, and their schedule."""
