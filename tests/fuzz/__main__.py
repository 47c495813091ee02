"""`python -m tests.fuzz --examples N`: N inputs for each reader, in one process with little address space to spare.

Allowed are a result and the errors of our own; anything else, MemoryError too, is a failure and shown as Hypothesis
does.
"""

import argparse
import resource
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from hypothesis import HealthCheck, given, settings

from cache.errors import StoreError
from hvd.errors import HvdError
from tests.fuzz.targets import Target, targets

HEADROOM = 1 << 30  # bytes of address space above what the process has once everything is imported
WARM_UP = 3


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m tests.fuzz", description=__doc__)
    parser.add_argument("--examples", type=int, default=650, help="inputs for each reader")
    parser.add_argument("--only", help="the readers whose name holds this")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="hvd-fuzz-") as folder:
        chosen = {name: t for name, t in targets(Path(folder)).items() if (options.only or "") in name}
        for target in chosen.values():
            run(target, WARM_UP)  # imports and caches, before the limit is set
        limit_memory()
        start, total = time.monotonic(), 0
        for name, target in chosen.items():
            count, refused = run(target, options.examples)
            total += count
            say(f"{name}: {count} inputs, {refused} refused")
        say(f"{total} inputs in {time.monotonic() - start:.0f} s, no uncaught exception")


def run(target: Target, examples: int) -> tuple[int, int]:
    """Read `examples` inputs; how many were generated, and how many of them were refused."""
    counts = [0, 0]

    @settings(max_examples=examples, database=None, deadline=None, derandomize=True,
              suppress_health_check=list(HealthCheck))  # fmt: skip
    @given(target.inputs)
    def read(value: Any) -> None:
        counts[0] += 1
        counts[1] += refuses(target.read, value)

    read()
    return counts[0], counts[1]


def refuses(reader: Callable[[Any], object], value: Any) -> bool:
    """Whether `reader` refuses `value` with an error of ours, of one printable line."""
    refusal: Exception | None = None
    try:
        reader(value)
    except (HvdError, StoreError) as error:
        refusal = error
    if isinstance(refusal, HvdError):
        assert refusal.exit_code in (2, 3, 4), refusal.exit_code
        assert str(refusal).isprintable(), "the message is not one plain line"
    return refusal is not None


def limit_memory() -> None:
    """Let the address space grow by no more than `HEADROOM`."""
    pages = int(Path("/proc/self/statm").read_text().split()[0])
    limit = pages * resource.getpagesize() + HEADROOM
    resource.setrlimit(resource.RLIMIT_AS, (limit, resource.RLIM_INFINITY))


def say(line: str) -> None:
    print(line, flush=True)  # noqa: T201  a script for people


if __name__ == "__main__":
    main()
