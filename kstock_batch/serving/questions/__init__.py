"""What people ask: in SQL, of a feature, of a stock."""
