"""The offline store: snapshots of the fleet as Parquet files."""
