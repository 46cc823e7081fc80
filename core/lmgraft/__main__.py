"""``python -m lmgraft``."""

from lmgraft.cli import main

if __name__ == "__main__":
    main()
