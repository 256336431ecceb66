"""Prints the variables with which a shell acts as an environment's worker of a running sandbox; secrets stay in files that they name.

eval "$(python -m sandbox.stack.shell dev)"
"""

from __future__ import annotations

import argparse
import shlex
import sys
from pathlib import Path

from migrator import errors
from sandbox.stack import stack
from sandbox.stack import state as stack_state


def main(arguments: list[str] | None = None) -> int:
    """Prints `export` lines; exit codes as the command's (promises.md §1)."""
    parser = argparse.ArgumentParser(prog="python -m sandbox.stack.shell", description="Variables of a sandbox environment.")
    parser.add_argument("environment", help="dev, release or prod")
    parser.add_argument("--state", type=Path, default=Path(".sandbox") / "demo", help="the running sandbox (default: %(default)s)")
    options = parser.parse_args(arguments)
    try:
        addresses = stack_state.running(options.state)
        variables = stack.client_environment(options.state, addresses, options.environment)
    except errors.GreylagError as error:
        print(error.describe(), file=sys.stderr)
        return int(error.exit_code)
    for name, value in sorted(variables.items()):
        print(f"export {name}={shlex.quote(value)}")
    scripts = Path(sys.executable).parent
    print(f'export PATH={shlex.quote(str(scripts))}:"$PATH"')
    return 0


if __name__ == "__main__":
    sys.exit(main())
