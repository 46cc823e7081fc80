"""Few documents of each title."""
