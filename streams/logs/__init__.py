"""Foreign logs (CSV, JSON lines, Parquet) and the mappings that make Kairos events of them."""
