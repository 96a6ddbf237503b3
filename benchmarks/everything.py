"""Every benchmark, one after another, and then the table of README.md. Hours; on a machine that does nothing else.

    python benchmarks/everything.py [--mergekit PATH/TO/mergekit-yaml] [--only candidate generation]

One that fails does not stop the others; the exit code says whether any did.
"""

import argparse
import subprocess
import sys
import time
from pathlib import Path

HERE = Path(__file__).parent
SCRIPTS = (
    *("startup", "candidate", "generation", "refill", "packing", "dataflow", "bank_home", "batched"),
    *("overhead", "devices", "kernels"),
    *("report", "gradient", "racing", "demo_spaces", "low_rank", "screening", "demo_seeds", "smollm2"),
)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--mergekit", help="compare with this one too")
    parser.add_argument("--only", nargs="+", choices=SCRIPTS, default=list(SCRIPTS))
    arguments = parser.parse_args()
    commands = [[name] for name in arguments.only]
    if arguments.mergekit:
        commands.append(["against_mergekit", "--mergekit", arguments.mergekit])
    failed = []
    for name, *more in commands:
        started = time.monotonic()
        code = subprocess.run([sys.executable, HERE / f"{name}.py", *more]).returncode
        print(f"{name}: exit code {code} after {time.monotonic() - started:.0f} s", flush=True)
        failed += [name] * (code != 0)
    subprocess.run([sys.executable, HERE / "table.py"], check=True)
    return bool(failed)


if __name__ == "__main__":
    sys.exit(main())
