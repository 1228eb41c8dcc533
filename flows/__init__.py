"""Prefect flows: each reads, calls the library, writes and logs."""
