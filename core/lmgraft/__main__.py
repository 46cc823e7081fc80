"""``python -m lmgraft``: as the console script, which does not look for modules in the working directory."""

import os
import sys

# The folder may be a stranger's, and `python -m` puts it first: a yaml.py or hydra_plugins/ in it would be imported.
if not sys.flags.safe_path and sys.path and sys.path[0] in ("", os.getcwd()):
    del sys.path[0]

from lmgraft.cli import main

if __name__ == "__main__":
    main()
