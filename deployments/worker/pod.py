"""A run's pod: `python -m deployments.worker.pod FLOW RUN ENVIRONMENT POOL WORKER`. Watches the run's process: Cancel in the UI reaches it, and an
eviction (SIGTERM) ends it in order and schedules the run anew.
"""

from __future__ import annotations

import asyncio
import signal
import sys
from uuid import UUID

from deployments.worker import place, prefect_bridge, starting


async def supervise(words: tuple[str, ...]) -> int:
    """Runs the run to its end. Returns the exit code: 0 once the run has a state of its own."""
    run_id = UUID(words[1])
    starter = starting.Subprocesses(place.ROOT)
    terminating = asyncio.Event()
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, terminating.set)
    prefect_bridge.refuse_stored_results()
    async with prefect_bridge.Executors() as executors:
        run = await executors.client.read_flow_run(run_id)
        child: starting.Child | None = None

        async def start() -> starting.Child:
            nonlocal child
            child = await starter.start(words, {**executors.control(run_id), "PREFECT__ENABLE_CANCELLATION_AND_CRASHED_HOOKS": "false"})
            return child

        async def wait() -> None:
            assert child is not None
            await child.wait()
            if terminating.is_set():
                child.pardoned = True  # `reschedule` has given the run its next state

        async def evicted() -> None:
            await terminating.wait()
            if child is None:
                return
            found = await executors.client.read_flow_run(run_id)
            if found.state is not None and found.state.is_cancelling():
                return  # Cancel is under way
            print("rescheduled" if await executors.reschedule(run_id) else "not rescheduled", file=sys.stderr)

        watch = asyncio.create_task(evicted())
        code = await executors.execute(run, start, wait, lambda _: None)
        if terminating.is_set():
            await watch
        watch.cancel()
    return code or 0


if __name__ == "__main__":
    sys.exit(asyncio.run(supervise(tuple(sys.argv[1:]))))
