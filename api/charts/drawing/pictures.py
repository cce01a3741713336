"""Draws Vega-Lite as SVG or PNG: in this process, or in a pool of processes that stay warm.

A process draws one picture at a time, and its first picture takes a second longer. The processes
load this module, the modules of the functions that they run, and nothing else of the server.
"""

import asyncio
import multiprocessing
import os
import signal
import threading
from collections.abc import Callable
from concurrent.futures import Future, ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from typing import Literal, TypeVar, TypeVarTuple

import vl_convert

Given = TypeVarTuple("Given")
Drawing = TypeVar("Drawing")

PictureFormat = Literal["svg", "png"]

PROCESSES = min(4, os.cpu_count() or 1)

WARM_UP = b'{"mark": "text", "encoding": {"text": {"value": "1"}}}'


def svg(spec: bytes) -> str:
    """A Vega-Lite chart as SVG, drawn without a browser or the network."""
    text: str = vl_convert.vegalite_to_svg(spec.decode(), allowed_base_urls=[])
    return text


def png(spec: bytes, scale: float = 2) -> bytes:
    """A Vega-Lite chart as PNG, with `scale` pixels for each px of the chart."""
    picture: bytes = vl_convert.vegalite_to_png(spec.decode(), scale=scale, allowed_base_urls=[])
    return picture


def picture(spec: bytes, format: PictureFormat) -> bytes:
    """A Vega-Lite chart as SVG or PNG."""
    return svg(spec).encode() if format == "svg" else png(spec)


class DrawingPool:
    """Processes that draw; the first call starts them, and they end with this process."""

    def __init__(self, processes: int = PROCESSES) -> None:
        self.processes = processes
        self._executor: ProcessPoolExecutor | None = None
        self._lock = threading.Lock()

    def submit(self, draw: Callable[[*Given], Drawing], *given: *Given) -> Future[Drawing]:
        """What `draw` makes of its arguments, later; work that has not begun can be cancelled.

        The process loads the module of `draw`.
        """
        with self._lock:
            try:
                return self._started().submit(draw, *given)
            except BrokenProcessPool:
                # The system may end a process that takes too much memory.
                self._executor = None
                return self._started().submit(draw, *given)

    async def picture(self, spec: bytes, format: PictureFormat) -> bytes:
        """The picture; a caller that is cancelled takes its picture out of the queue."""
        try:
            return await asyncio.wrap_future(self.submit(picture, spec, format))
        except BrokenProcessPool:
            return await asyncio.wrap_future(self.submit(picture, spec, format))

    def warm_up(self) -> None:
        """Start all processes without waiting for them."""
        for _ in range(self.processes):
            self.submit(svg, WARM_UP)

    def close(self) -> None:
        """End the processes, and wait for them."""
        with self._lock:
            if self._executor is not None:
                self._executor.shutdown(cancel_futures=True)
                self._executor = None

    def _started(self) -> ProcessPoolExecutor:
        if self._executor is None:
            self._executor = ProcessPoolExecutor(
                self.processes,
                # A fork would copy the locks of other threads.
                multiprocessing.get_context("spawn"),
                _begin,
            )
        return self._executor


POOL = DrawingPool()
"""The pool of this process, for all servers and reports."""


def _begin() -> None:
    """Let a process of the pool end with the process that started it, and only then."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    parent = multiprocessing.parent_process()
    assert parent is not None

    def end_with_parent() -> None:
        parent.join()
        os._exit(1)

    threading.Thread(target=end_with_parent, daemon=True).start()
