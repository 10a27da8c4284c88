"""The long form: random kills, then the sweep over every write.

    python -m benchmarks.chaos [--kills 1000] [--seed 1] [--no-sweep]

Ends with 1 when anything was lost, said twice or broken.
"""

import argparse
import sys
import time

from .kills import random_kills
from .stage import stage
from .sweep import ACTS, sweep, tracing


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--kills", type=int, default=1000)
    parser.add_argument("--seed", type=int, default=int(time.time()))
    parser.add_argument("--no-sweep", action="store_true")
    asked = parser.parse_args()
    print(f"seed {asked.seed}", flush=True)
    sound = True
    if asked.kills:
        with stage(ack_timeout_s=1.0, engine_s=0.05, ANSWER_WORKERS="4") as here:
            found = random_kills(here, kills=asked.kills, seed=asked.seed, say=lambda text: print(text, flush=True))
        print(f"{asked.kills} random kills: {found}", flush=True)
        sound = found.sound
    if not asked.no_sweep and (trouble := tracing()):
        print(f"no sweep: {trouble}")
    elif not asked.no_sweep:
        with stage(ANSWER_WORKERS="2") as here:
            for act in ACTS:
                swept = sweep(here, act)
                print(swept, flush=True)
                sound = sound and not swept.faults
    return 0 if sound else 1


if __name__ == "__main__":
    sys.exit(main())
