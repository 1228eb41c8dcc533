"""The source database: tables, queries, backups."""
