"""What holds for every test: it runs as root, and against the real tools of the field."""

from __future__ import annotations

import os
import shutil
import sys

import pytest
from hypothesis import HealthCheck, settings

ROOT = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))

# At the end: `tests` is found here, but builder, cache and grammar as they are installed, where they are.
if ROOT not in sys.path:
    sys.path.append(ROOT)


# No test measures time, on a machine that does other things too; in CI each run tries the same examples.
_SLOW = (HealthCheck.too_slow, HealthCheck.data_too_large)
settings.register_profile(
    "tests", deadline=None, suppress_health_check=_SLOW, derandomize=bool(os.environ.get("CI"))
)
settings.register_profile("fuzz", deadline=None, suppress_health_check=_SLOW, max_examples=20_000)
settings.load_profile("tests")


def pytest_sessionstart(session: pytest.Session) -> None:
    """The sandbox, overlay mounts and layer ownership are the real ones, and those are root's."""
    if os.geteuid() != 0 and not session.config.option.collectonly:
        pytest.exit("pybuild's tests mount, chroot and chown for real, so they need root: sudo make test", 4)


def pytest_runtest_setup(item: pytest.Item) -> None:
    """`@pytest.mark.peer("skopeo")`: the test needs that program; where CI is set, it must be there."""
    names = [str(name) for marker in item.iter_markers("peer") for name in marker.args]
    missing = [name for name in names if shutil.which(name) is None]
    if not missing:
        return
    message = f"not on this machine: {', '.join(missing)} (`make test` installs them)"
    if os.environ.get("CI"):
        pytest.fail(message, pytrace=False)
    pytest.skip(message)


@pytest.fixture
def checkout() -> str:
    """The root of this checkout."""
    return ROOT
