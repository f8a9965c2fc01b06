"""Functions that run in several processes at once, as torchrun would have started them.

They are forked from one process that has imported everything, so that a group costs a second and not ten.
"""

import multiprocessing
import os
import pickle
import socket
from collections.abc import Callable
from functools import cache
from multiprocessing.connection import Connection
from typing import Any

import torch

from tasks.model.world import World


def together(size: int, work: Callable[..., Any], *given: Any) -> list[Any]:
    """What `work(world, *given)` returns in each of `size` processes, which must be picklable."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    context = _context()
    pipes = [context.Pipe(duplex=False) for _ in range(size)]
    children = [
        context.Process(target=_life, args=(rank, size, port, pipes[rank][1], work, given)) for rank in range(size)
    ]
    for child, (_, send) in zip(children, pipes, strict=True):
        child.start()
        send.close()
    try:
        found = [
            pickle.loads(receive.recv_bytes()) if receive.poll(120) else "nothing in 120 s" for receive, _ in pipes
        ]
    except EOFError:
        found = ["ended without a word"]
    finally:
        for child in children:
            child.kill()
            child.join()
        for receive, _ in pipes:
            receive.close()
    if errors := [each for each in found if isinstance(each, (Exception, str))]:
        raise errors[0] if isinstance(errors[0], Exception) else TimeoutError(errors[0])
    return [each[0] for each in found]


@cache
def _context() -> multiprocessing.context.ForkServerContext:
    found = multiprocessing.get_context("forkserver")
    found.set_forkserver_preload(["pytest", "tests.tasks.model.small", "tasks.model.training"])
    return found


def _life(rank: int, size: int, port: int, send: Connection, work: Callable[..., Any], given: tuple[Any, ...]) -> None:
    torch.set_num_threads(1)
    os.environ |= {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port), "RANK": str(rank), "WORLD_SIZE": str(size)}
    try:
        world = World.joined("cpu")
        found: Any = (work(world, *given),)
        world.leave()
    except Exception as error:
        import traceback

        error.add_note(traceback.format_exc())
        found = error
    send.send_bytes(pickle.dumps(found))
    os._exit(0)
