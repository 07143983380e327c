"""An agent that ends before it listens, as one with a missing import does."""

import sys

print("loading the model", flush=True)
print("ModuleNotFoundError: No module named 'not_a_module'", file=sys.stderr, flush=True)
sys.exit(1)
