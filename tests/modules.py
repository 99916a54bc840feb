"""What the tests of the code itself look at: its modules, room by room, for a test of each would be thousands."""

from collections.abc import Callable
from itertools import groupby
from pathlib import Path

import pytest

import kstock_batch

PACKAGE = Path(kstock_batch.__file__).parent
MODULES = sorted(PACKAGE.rglob("*.py"))


def name_of(path: Path) -> str:
    """Return the module's path in the package."""
    return str(path.relative_to(PACKAGE))


def room(path: Path) -> str:
    """Return the folder of the package that the module lies in, or its own name."""
    return path.relative_to(PACKAGE).parts[0].removesuffix(".py")


def every_module(test: Callable[[Path], None]) -> Callable[[str], None]:
    """Have ``test`` look at each module, and be told by room; the first module that fails is named."""
    rooms = {name: list(paths) for name, paths in groupby(MODULES, room)}

    @pytest.mark.parametrize("name", rooms)
    def of_room(name: str) -> None:
        assert rooms[name]
        for path in rooms[name]:
            try:
                test(path)
            except AssertionError as error:
                raise AssertionError(f"{name_of(path)}: {error}") from error

    of_room.__doc__ = test.__doc__
    return of_room
