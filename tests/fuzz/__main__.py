"""`make fuzz SECONDS=60`: every target for its share of the time.  `TARGETS=query,layout` picks some."""

from __future__ import annotations

import argparse
import sys
import time
from pathlib import Path

from tests.fuzz.hunting import Finding, Hunt
from tests.fuzz.targets import TARGETS

FINDINGS = Path("fuzz-findings")


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.fuzz", description=__doc__)
    parser.add_argument("--seconds", type=float, default=60.0)
    parser.add_argument("--seed", type=int, default=None, help="default: another one each time; it is printed")
    parser.add_argument("--targets", default="", help=f"of {', '.join(target.name for target in TARGETS)}")
    options = parser.parse_args()
    wanted = [name for name in options.targets.split(",") if name]
    unknown = set(wanted) - {target.name for target in TARGETS}
    if unknown:
        parser.error(f"there is no target {', '.join(sorted(unknown))}")
    targets = [target for target in TARGETS if not wanted or target.name in wanted]
    seed = int(time.time()) if options.seed is None else options.seed
    print(f"seed {seed}", flush=True)
    total, findings = 0, list[Finding]()
    for target in targets:
        hunt = Hunt(target, seed)
        hunt.replay_corpus()
        hunt.run(seconds=options.seconds / len(targets))
        total += hunt.count
        findings += hunt.findings.values()
        print(f"{target.name:<14}{hunt.count:>10,} inputs{len(hunt.findings):>4} findings", flush=True)
        for finding in hunt.findings.values():
            first = finding.what.splitlines()
            print(f"  {first[0]}: {first[-1][:200]}\n  {finding.save(FINDINGS)}", flush=True)
    print(f"{'together':<14}{total:>10,} inputs{len(findings):>4} findings")
    return 1 if findings else 0


if __name__ == "__main__":
    sys.exit(main())
