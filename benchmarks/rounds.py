"""What the scripts beside this one have in common: `hwloop bench` with benchmarks of their own.

A script has a list CASES and ends in `rounds.main(CASES)`. Its options are those of `hwloop bench`.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path
from typing import NoReturn

sys.path.append(str(Path(__file__).parents[1]))

from hwloop.cli import Failure, UsageError, bench
from hwloop.cli.bench_rounds import Case


def main(cases: list[Case]) -> NoReturn:
    """Measure as the command line says, and end the process."""
    doc = sys.modules["__main__"].__doc__
    parser = argparse.ArgumentParser(description=doc, formatter_class=argparse.RawDescriptionHelpFormatter)
    bench.add_common_arguments(parser, " ".join(case.name for case in cases))
    try:
        status = bench.compare(cases, parser.parse_args())
    except UsageError as error:
        parser.error(str(error))
    except Failure as error:
        sys.exit(f"{parser.prog}: {error}")
    except KeyboardInterrupt:
        status = 130
    sys.exit(status)
