"""`python -m sandbox.simulator --seeds 10000`: the last line is JSON; 1 where anything was violated."""

import argparse
import json
import logging
import multiprocessing
import os
import sys
import time
from collections.abc import Iterable, Iterator

import structlog

from sandbox.simulator.simulate import Result, check


def _quiet() -> None:
    structlog.configure(wrapper_class=structlog.make_filtering_bound_logger(logging.CRITICAL))


def _results(seeds: Iterable[int], processes: int) -> Iterator[Result]:
    if processes == 1:
        _quiet()
        yield from map(check, seeds)
        return
    with multiprocessing.get_context("fork").Pool(processes, _quiet) as pool:
        yield from pool.imap_unordered(check, seeds, chunksize=8)


def _report(result: Result) -> None:
    print(f"seed {result.seed}, event {result.events}: {result.violation}")
    print(*(f"  {line}" for line in result.trace), sep="\n")
    print(f"  replay: python -m sandbox.simulator --seed {result.seed} --trace", flush=True)


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m sandbox.simulator", description=__doc__)
    parser.add_argument("--seeds", type=int, default=1000, help="how many (default: %(default)s)")
    parser.add_argument("--start", type=int, default=0, help="the first (default: %(default)s)")
    parser.add_argument("--seed", type=int, help="this one alone")
    parser.add_argument("--trace", action="store_true", help="with --seed: print every event")
    parser.add_argument(
        "--processes", type=int, default=os.cpu_count(), help="at work at once (default: one a core)"
    )
    arguments = parser.parse_args()
    began, events, violations = time.monotonic(), 0, 0
    scaled_out = scaled_in = 0
    if arguments.seed is not None:
        _quiet()
        results: Iterable[Result] = [check(arguments.seed, trace=arguments.trace)]
    else:
        seeds = range(arguments.start, arguments.start + arguments.seeds)
        results = _results(seeds, arguments.processes or 1)
    count = 0
    for result in results:
        count += 1
        events += result.events
        scaled_out += result.scaled_out
        scaled_in += result.scaled_in
        if result.violation:
            violations += 1
            _report(result)
    seconds = round(time.monotonic() - began, 1)
    summary = {"seeds": count, "events": events, "violations": violations, "seconds": seconds}
    print(json.dumps({**summary, "scaled_out": scaled_out, "scaled_in": scaled_in}))
    return 1 if violations else 0


if __name__ == "__main__":
    sys.exit(main())
