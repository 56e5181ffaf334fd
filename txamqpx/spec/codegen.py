"""The generator: from a specification to Python source.

It has two callers.  ``python -m txamqpx.spec.codegen`` writes the modules for 0-9-1 that are checked
in, and ``dialect`` compiles the same source for any other specification at run time.
"""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path

from txamqpx.spec.callgen import channel_source
from txamqpx.spec.modulegen import module_source
from txamqpx.spec.xmlspec import bundled

__all__ = ["channel_source", "main", "module_source"]


def main(
    arguments: list[str],
    write: Callable[[str], object] = sys.stdout.write,
    package: Path = Path(__file__).parent.parent,
) -> int:
    """Write the generated modules, or with ``--check`` say which of them are stale.

    Returns:
        The exit status: 1 if a module was stale and only a check was asked for.
    """
    spec = bundled("0-9-1")
    stale = 0
    for path, source in (
        (package / "spec" / "amqp0_9_1.py", module_source(spec)),
        (package / "channel_methods.py", channel_source(spec)),
    ):
        if not path.exists() or path.read_text() != source:
            stale += 1
            write(f"{path.name} is stale\n" if "--check" in arguments else f"{path.name} written\n")
            if "--check" not in arguments:
                path.write_text(source)
    return 1 if stale and "--check" in arguments else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
