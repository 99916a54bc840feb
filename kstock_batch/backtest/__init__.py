"""Years of nights walked again: retrain as of each date on what was known, score what followed, tell what came true."""
