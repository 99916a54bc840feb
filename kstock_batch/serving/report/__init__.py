"""The report: one page for a browser, of what was published tonight and what came of the nights before."""
