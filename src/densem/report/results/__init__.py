"""Results of many runs: one table, its files, its figures and its page."""
