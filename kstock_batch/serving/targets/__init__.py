"""Second targets: the publication's content once more, for readers that have no DuckDB."""
