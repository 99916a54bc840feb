"""What the bot imports: standard library and duckdb only, Python 3.9 syntax."""
