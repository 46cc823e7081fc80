"""The training loop, the loader and checkpoints: they know steps, neither models nor devices."""
