"""An agent that never listens. Commands need no agent, so they must work beside it."""

import time

print("deaf and alive", flush=True)
while True:
    time.sleep(60)
