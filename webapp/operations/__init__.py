"""Flow runs, workers, logs and metrics."""
