"""All cases."""

from __future__ import annotations

from tests.escape_fixtures.archives import ARCHIVES, LAYERS
from tests.escape_fixtures.bombs import BOMBS
from tests.escape_fixtures.contexts import CONTEXTS
from tests.escape_fixtures.images import IMAGES
from tests.escape_fixtures.mounts import MOUNTS
from tests.escape_fixtures.paths import PATHS
from tests.escape_fixtures.sandbox import SANDBOX
from tests.escape_fixtures.terminal import TERMINAL

GROUPS = (PATHS, CONTEXTS, ARCHIVES, LAYERS, IMAGES, BOMBS, MOUNTS, SANDBOX, TERMINAL)

CASES = tuple(case for group in GROUPS for case in group.cases)
