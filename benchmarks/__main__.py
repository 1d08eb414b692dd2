"""`python -m benchmarks [NAME ...]`: each figure as a ratio to a baseline taken in the same run."""

from __future__ import annotations

import argparse
import importlib
import json
import os
import platform
import sys

BENCHMARKS = {
    "build": "benchmarks.building",
    "round": "benchmarks.rounds",
    "console": "benchmarks.console",
    "table": "benchmarks.table",
    "pool": "benchmarks.pools",
    "hosts": "benchmarks.hosts",
    "recovery": "benchmarks.recovery",
    "messages": "benchmarks.messages",
    "replay": "benchmarks.replay",
    "launcher": "benchmarks.launcher",
    "states": "benchmarks.kept_states",
    "exact": "benchmarks.exact",
    "partition": "benchmarks.partitions",
}
# Only where they are named: they stand on other people's packages, or install them, or need gigabytes.
OPTIONAL = {
    "peers": "benchmarks.peers.comparison",
    "torch": "benchmarks.torch_nodes",
    "memory": "benchmarks.model_memory",
}


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description=__doc__)
    parser.add_argument(
        "names", nargs="*", metavar="NAME", help=f"of {', '.join(BENCHMARKS)} (default: all), {', '.join(OPTIONAL)}"
    )
    parser.add_argument("--json", action="store_true", help="print JSON on stdout")
    options = parser.parse_args()
    modules = {**BENCHMARKS, **OPTIONAL}
    unknown = [name for name in options.names if name not in modules]
    if unknown:
        parser.error(f"there is no benchmark {', '.join(unknown)}: choose from {', '.join(modules)}")
    results = []
    for name in options.names or BENCHMARKS:
        print(f"{name} ...", file=sys.stderr, flush=True)
        results += importlib.import_module(modules[name]).run()
    if options.json:
        print(json.dumps({"cores": os.cpu_count(), "python": platform.python_version(), "results": results}, indent=1))
    else:
        print(f"{os.cpu_count()} cores, Python {platform.python_version()}")
        for result in results:
            verdict = "" if result["reached"] is None else "reached" if result["reached"] else "NOT REACHED"
            print(f"{result['what']:<64} {result['figure']:<34} {result['goal']:<14} {verdict}")
    return 0 if all(result["reached"] is not False for result in results) else 1


if __name__ == "__main__":
    sys.exit(main())
