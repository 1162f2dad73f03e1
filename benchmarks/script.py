"""The frame of the scripts beside this one: the options and the output of `hwloop bench`.

A script has a list CASES and ends with `script.main(CASES)`.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path
from typing import NoReturn

sys.path.append(str(Path(__file__).parents[1]))

from hwloop.cli import Failure, UsageError
from hwloop_bench import command
from hwloop_bench.processes import Case


def main(cases: list[Case]) -> NoReturn:
    """Measure as the command line says, and exit."""
    doc = sys.modules["__main__"].__doc__
    parser = argparse.ArgumentParser(description=doc, formatter_class=argparse.RawDescriptionHelpFormatter)
    command.add_common_arguments(parser, " ".join(case.name for case in cases))
    try:
        status = command.measure_all(cases, parser.parse_args())
    except UsageError as error:
        parser.error(str(error))
    except Failure as error:
        sys.exit(f"{parser.prog}: {error}")
    except KeyboardInterrupt:
        status = 130
    sys.exit(status)
