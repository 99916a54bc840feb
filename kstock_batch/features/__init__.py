"""Raw tables become features, labels and windows."""
