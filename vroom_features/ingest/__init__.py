"""From CSV files to rows of the source database."""
