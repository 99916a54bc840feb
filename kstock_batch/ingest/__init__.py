"""Source rows become raw rows."""
