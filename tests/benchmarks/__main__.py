"""Run every benchmark, one after the other: `make bench`, or `python -m tests.benchmarks [NAME …]`."""

import subprocess
import sys
from pathlib import Path

NAMES = sorted(path.stem.removeprefix("bench_") for path in Path(__file__).parent.glob("bench_*.py"))


def main() -> int:
    """Run the benchmarks named on the command line, all of them by default; a failed one stops none."""
    names = sys.argv[1:] or NAMES
    if unknown := set(names) - set(NAMES):
        print(f"error: there is no benchmark {', '.join(sorted(unknown))}; known: {', '.join(NAMES)}", file=sys.stderr)
        return 2
    failed = []
    for name in names:
        print(f"== {name}", flush=True)
        # A process each: what one has loaded or cached must not serve the next.
        if subprocess.run([sys.executable, "-m", f"{__package__}.bench_{name}"]).returncode:
            failed.append(name)
    if failed:
        print(f"error: failed: {', '.join(failed)}", file=sys.stderr)
    return bool(failed)


if __name__ == "__main__":
    sys.exit(main())
