"""What a model learns from: datasets of snapshots, and their folds."""
