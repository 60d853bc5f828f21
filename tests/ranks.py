"""Run a function under a (pipeline, tensor, data) layout: one process a rank, gloo on the CPU."""

import multiprocessing
import os
import pickle
import socket
import tempfile
import time
import traceback
from collections.abc import Callable
from pathlib import Path
from typing import Any

from tsjt_ds.parallel.layout import Layout

# The fork server imports the heavy libraries once for all tests.
_CONTEXT = multiprocessing.get_context("forkserver")
_CONTEXT.set_forkserver_preload(["tests.preload"])


def run_ranks(
    function: Callable[..., Any], layout: Layout, *args: Any, timeout: float = 240.0
) -> list[Any]:
    """Call ``function(world, *args)`` on every rank of ``layout``; the results in rank order.

    Fails with the first failing rank's traceback.
    """
    with tempfile.TemporaryDirectory() as scratch:
        port = _free_port()
        processes = [
            _CONTEXT.Process(
                target=_rank_main, args=(function, layout, rank, port, scratch, args), daemon=True
            )
            for rank in range(layout.world_size)
        ]
        for process in processes:
            process.start()
        for process in processes:
            process.join(timeout)
        stuck = [rank for rank, process in enumerate(processes) if process.is_alive()]
        for process in processes:
            process.kill()
        results = []
        for rank in range(layout.world_size):
            path = Path(scratch, str(rank))
            if not path.exists():
                raise AssertionError(f"rank {rank} of {layout} gave no result (stuck: {stuck})")
            failure, result = pickle.loads(path.read_bytes())
            if failure:
                raise AssertionError(f"rank {rank} of {layout}:\n{failure}")
            results.append(result)
        return results


def _rank_main(
    function: Callable[..., Any], layout: Layout, rank: int, port: int, scratch: str, args: Any
) -> None:
    os.environ.update(
        RANK=str(rank),
        LOCAL_RANK=str(rank),
        WORLD_SIZE=str(layout.world_size),
        MASTER_ADDR="127.0.0.1",
        MASTER_PORT=str(port),
    )
    failure, result = "", None
    try:
        from tsjt_ds.parallel.groups import initialize_world

        result = function(initialize_world(layout), *args)
    except BaseException:
        failure = traceback.format_exc()
    partial = Path(scratch, f"{rank}.partial")
    partial.write_bytes(pickle.dumps((failure, result)))
    partial.rename(Path(scratch, str(rank)))
    if rank == 0 and not failure:  # It serves the others' store.
        while any(not Path(scratch, str(other)).exists() for other in range(layout.world_size)):
            time.sleep(0.01)
    os._exit(0)  # A rank whose peer failed would wait in its process group's destructor.


def _free_port() -> int:
    with socket.socket() as server:
        server.bind(("127.0.0.1", 0))
        return int(server.getsockname()[1])
