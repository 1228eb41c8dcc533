"""The stores: the source database, the offline store (Parquet) and the online store (Redis)."""
