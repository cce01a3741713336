"""A Python that sees only the packages that `pip install prunelake` brings, without any extra."""

from collections.abc import Iterable
from importlib.metadata import PackageNotFoundError, packages_distributions, requires

from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

PLAIN = """
import sys
from importlib.machinery import PathFinder

class PlainFinder(PathFinder):
    @classmethod
    def find_spec(cls, name, path=None, target=None):
        if name.partition(".")[0] in {hidden!r}:
            return None
        return super().find_spec(name, path, target)

sys.meta_path[sys.meta_path.index(PathFinder)] = PlainFinder
"""


def plain_python() -> str:
    """Code that hides all other installed packages from the interpreter that runs it first."""
    brought = _distributions([Requirement("prunelake")])
    hidden = {
        package
        for package, distributions in packages_distributions().items()
        if not brought & {canonicalize_name(name) for name in distributions}
    }
    return PLAIN.format(hidden=hidden)


def _distributions(wanted: Iterable[Requirement]) -> set[str]:
    """The distributions that pip installs for some requirements, by their canonical names."""
    found: set[str] = set()
    seen: set[tuple[str, str]] = set()
    todo = [(one.name, extra) for one in wanted for extra in ("", *one.extras)]
    while todo:
        name, extra = todo.pop()
        key = (canonicalize_name(name), extra)
        if key in seen:
            continue
        seen.add(key)
        try:
            lines = requires(name) or []
        except PackageNotFoundError:  # for another platform
            continue
        found.add(key[0])
        for requirement in map(Requirement, lines):
            if requirement.marker is None or requirement.marker.evaluate({"extra": extra}):
                todo += [(requirement.name, other) for other in ("", *requirement.extras)]
    return found
