"""A failed step whose build cannot be planned again, since the recipe has changed: what was written down of
it has to do.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from builder.debug.description import detached
from builder.debug.failedshell import FailedShell, Printed

if TYPE_CHECKING:
    from builder.executor import Executor
    from builder.session import Session
    from cache.failedsteps import FailedStep
    from cache.scratch import Staging


def open_alone(
    session: Session, failed: FailedStep, entered: Staging, why: str, user: str = ""
) -> FailedShell:
    """Return the shell of a failed step without its build; `why` that is so. Raises StoreError if what the
    step stands on is gone.
    """
    from dataclasses import replace

    from builder.errors import UsageError
    from builder.limits import failed as failure
    from cache.oci.digest import ChainID

    store = session.store
    facts = failed.more["step"]
    lower = store.layers.lowerdirs(ChainID(failed.parent)) if failed.parent else ()
    request = replace(detached(facts), lower=lower, upper=entered.upper, work=entered.work)
    lost = [each["target"] or each["env"] for each in facts["mounts"] if each["type"] != "tmpfs"]
    if lost:
        why = f"{why}; without it, there is no {', '.join(lost)}"

    def shell(executor: Executor) -> None:
        executor.run(request, lambda *_: None)

    def again(executor: Executor) -> None:
        if not request.argv:
            raise UsageError(
                "that step cannot be run by itself", code="debug/alone", hint="build the recipe again"
            )
        printed = Printed()
        result = executor.run(request, lambda _stream, data: printed.write(data))
        printed.end_line()
        if result.status:
            raise failure(request, result, failed.text.partition(" ")[0], failed.text)

    return FailedShell(
        store,
        failed,
        entered,
        lower,
        session.executor(),
        again=again,
        shell=shell,
        refusal=why,
        user=user,
    )
