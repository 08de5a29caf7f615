"""All benchmarks, each against a named baseline measured in the same run.

Run by `make bench`, or for a part by `python -m tests.benchmarks pixels`. A missed bound ends with
exit code 1.
"""

import json
import sys

from imagegen_tf import runtime
from tests.benchmarks import flow, inpainting, pixels, superres, training

PARTS = {
    "pixels": pixels.measure,
    "training": training.measure,
    "superres": superres.measure,
    "inpainting": inpainting.measure,
    "flow": flow.measure,
}


def main(names):
    """Print the table as it grows, and keep it as JSON."""
    unknown = set(names) - set(PARTS)
    if unknown:
        sys.exit(f"unknown: {', '.join(unknown)}; expected some of {', '.join(PARTS)}")
    rows = []
    for name in names or PARTS:
        for row in PARTS[name]():
            rows.append(row)
            spread = f" ({row['lowest']} to {row['highest']})" if "lowest" in row else ""
            bound = "" if row["bound"] is None else f"bound {row['bound']:g}"
            verdict = "" if row["met"] else "  MISSED"
            measured = f"{row['name']:44} {row['ratio']:7.3g} x {row['baseline']:44}"
            print(f"{measured}{spread:18}{bound}{verdict}", flush=True)
            if "note" in row:
                print(f"    {row['note']}", flush=True)
    runtime.write_text(runtime.runs_folder() / "benchmarks.json", json.dumps(rows, indent=2) + "\n")
    return 0 if all(row["met"] for row in rows) else 1


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
