"""Coverage-guided fuzzing of what reads other people's bytes; run by hand, see docs/security.md."""
