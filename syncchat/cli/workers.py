"""Several processes that serve one port: their parent, and the numbers that they share.

The parent forks the workers, passes signals on to them, restarts those that end, and joins
their logs. It serves nobody and has a single thread, so that it can fork at any time.
"""

from __future__ import annotations

import contextlib
import logging
import os
import select
import signal
import socket
import sys
import time
import traceback
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from types import FrameType

from ..errors import CannotListen, EngineUnusable
from ..eventlog import LogWriter
from ..health import Board, Snapshot
from ..net import listen_for_each, share_sockets
from .do import console_of, taken_over
from .log_output import Diagnostics, reopen_log
from .reload import Reloader
from .server_configuration import ServerConfiguration
from .service_manager import ServiceManager
from .settings import WrongSetting
from .signals import HANGUP, REOPEN, other_signals, stopping_signals, terminal, wakeup
from .worker_process import Worker

__all__ = ["run_workers"]

logger = logging.getLogger("syncchat.engine")

#: A worker that ends is started again at once. If it then lives for less than _SHORT_LIFE, it is
#: started again after _BACK_OFF, then after twice that, and so on. Clients that the kernel has
#: given to it wait meanwhile.
_BACK_OFF, _LONGEST_BACK_OFF, _SHORT_LIFE = 0.5, 5.0, 5.0

#: Seconds of a stop, after which workers are killed; and those for the rest of the log.
_STOP, _LAST_LINES = 4.0, 0.5
#: Seconds between two snapshots of a worker.
_PERIOD = 1.0

#: Bytes that a pipe takes without blocking when it is ready.
_WRITE = select.PIPE_BUF if hasattr(select, "PIPE_BUF") else 512


def run_workers(
    configuration: ServerConfiguration,
    manager: ServiceManager,
    output: int | None,
    sockets: list[socket.socket] | None,
) -> int:
    """Run workers until a signal to stop comes. Returns the exit code.

    ``output`` is the descriptor for the log, None for no log. ``sockets`` are those at which all
    workers listen; None: they make their own. Call it on the main thread of a process without other
    threads. Raises :class:`CannotListen` if another server does not let go of the port.
    """
    options = configuration.options
    count = options.workers
    taken = taken_over(options.port) if options.take_over else None
    with (
        Diagnostics(options, None, None),
        contextlib.closing(_Parent(configuration, manager, output)) as parent,
    ):
        if taken:
            return parent.run(partial(share_sockets, taken, count))
        if sockets is not None:
            return parent.run(lambda: [sockets] * count)
        return parent.run(partial(listen_for_each, count, options.host, options.port))


class _Stopped(Exception):
    """A signal has come during a write, which may take for ever."""


class _Parent:
    def __init__(
        self,
        configuration: ServerConfiguration,
        manager: ServiceManager,
        output: int | None,
    ) -> None:
        self._sockets: Sequence[Sequence[socket.socket]] = []
        self._parent = os.getpid()
        #: In a worker: the sockets of the other workers, unless it closed them.
        self._sockets_of_others: list[socket.socket] = []
        self._configuration, self._manager = configuration, manager
        self._output = output
        self._terminal = terminal()
        count = configuration.options.workers
        self._board = Board(count)
        self._workers = [Worker(number) for number in range(count)]
        #: Lines of the log that are to be written.
        self._lines = bytearray()
        self._is_writing = False
        #: Whether all workers have started: from then on, each is started again.
        self._is_up = False
        #: Signals to stop that have come.
        self._signals: list[int] = []
        self._handled = [*stopping_signals(), *other_signals(), signal.SIGCHLD]
        self._wakeup, self._waker = wakeup()
        for signum in self._handled:
            signal.signal(signum, self._note)

    def run(self, listen: Callable[[], Sequence[Sequence[socket.socket]]]) -> int:
        """Start the workers, and look after them."""
        try:
            self._sockets = listen()
        except CannotListen as exc:
            return self._give_up(str(exc))
        for worker in self._workers:
            try:
                self._fork(worker)
            except OSError as exc:
                return self._give_up(f"cannot start {worker.name}: {exc.strerror}")
        # The log is not read yet: it begins with `listening`.
        while not all(worker.is_ready for worker in self._workers):
            self._wait(None, reads_logs=False)
            if self._signals:
                return self._stop()
            for worker in self._workers:
                if not worker.pid:
                    return self._give_up(worker.why or f"{worker.name} has ended at its start")
        self._is_up = True
        if self._output is not None:
            self._read_log(self._workers[0])
        self._manager.tell(READY=1)
        while not self._signals:
            now = time.monotonic()
            for worker in self._workers:
                try:
                    if not worker.pid and worker.due <= now:
                        self._fork(worker)
                except OSError as exc:
                    self._plan(worker, f"cannot be started: {exc.strerror}")
            due = [worker.due for worker in self._workers if not worker.pid]
            self._wait(max(0.0, min(due) - now) if due else self._manager.wait)
            self._manager.beat(self._look)
        self._manager.tell(STOPPING=1)
        return self._stop()

    def _look(self) -> tuple[bool, str]:
        """Whether every worker works, and the state of all in a line."""
        every = list(self._board.others(-1))
        failures = [each.failure for each in every if each.failure is not None]
        clients = sum(each.numbers.stats.connections for each in every)
        # A worker that has ended is started again; one that is stuck is not.
        works = not any(each.endswith("does not answer") for each in failures)
        return works, "; ".join([f"{clients} clients", *failures[:1]])

    def close(self) -> None:
        signal.set_wakeup_fd(-1)
        self._wakeup.close()
        self._waker.close()
        self._board.close()
        self._close_sockets()

    def _note(self, signum: int, _frame: FrameType | None) -> None:
        """Handle a signal, which also wakes :meth:`_wait`."""
        if self._is_writing and signum in stopping_signals():
            # Python would go on with the write, which a stopped terminal blocks.
            self._is_writing = False
            raise _Stopped

    # Starting.

    def _fork(self, worker: Worker) -> None:
        """Start a worker. Raises :class:`OSError`."""
        worker.born = time.monotonic()
        near, far = socket.socketpair()
        reading, writing = os.pipe()
        # A signal in between would run this process's handler in the worker.
        before = signal.pthread_sigmask(signal.SIG_BLOCK, self._handled)
        try:
            pid = os.fork()
            if pid == 0:
                near.close()
                os.close(reading)
                self._become(worker, far, writing, before)
        except OSError:
            near.close()
            os.close(reading)
            raise
        finally:
            far.close()
            os.close(writing)
            signal.pthread_sigmask(signal.SIG_SETMASK, before)
        worker.pid = pid
        worker.link, worker.pipe, worker.said = near, reading, b""

    def _become(
        self,
        worker: Worker,
        link: socket.socket,
        log: int,
        mask: set[int | signal.Signals],
    ) -> None:
        """Be the worker, in the new process. Never returns."""
        code = 1
        try:
            # An end of a link that stays open here would hide that its process has ended.
            for other in self._workers:
                other.forget()
            # The first one keeps the sockets of all: it has the console, which hands them over.
            own = set(map(id, self._sockets[worker.number]))
            self._sockets_of_others = [
                sock for each in self._sockets for sock in each if id(sock) not in own
            ]
            if worker.number:
                self._close_sockets_of_others()
            self._wakeup.close()
            self._waker.close()
            signals, _waker = wakeup()
            # A terminal sends its signals to all processes. The parent decides what they mean.
            # SIGTERM is never ignored, even for a moment: one that waits would be discarded.
            for signum in set(self._handled) - {signal.SIGTERM, HANGUP}:
                signal.signal(signum, signal.SIG_IGN)
            signal.signal(signal.SIGCHLD, signal.SIG_DFL)
            signal.pthread_sigmask(signal.SIG_SETMASK, mask)
            code = self._work(worker.number, link, log, signals)
        finally:
            failure = sys.exc_info()[1]
            with contextlib.suppress(OSError):
                if failure is not None:
                    traceback.print_exception(failure)
            os._exit(code)

    def _work(
        self,
        number: int,
        link: socket.socket,
        log: int,
        signals: socket.socket,
    ) -> int:
        """Serve until SIGTERM, or the end of the parent. Returns the exit code."""
        is_first = number == 0 and not self._is_up
        found = self._board.read(number)
        earlier = [] if found is None else [Snapshot(found[1].numbers)]
        writer = None if self._output is None else LogWriter(log)
        write = None if writer is None else writer.print
        server = self._configuration.make(
            self._output,
            log=write,
            log_start=is_first,
            sockets=self._sockets[number],
            siblings=lambda: [*earlier, *tell()],
        )

        def tell() -> Iterator[Snapshot]:
            with self._board.lock:
                self._board.write(number, server.snapshot(), earlier)
            return self._board.others(number)

        # What Redis promises is told once.
        logger.setLevel(logging.NOTSET if is_first else logging.ERROR)
        try:
            server.start()
        except (CannotListen, EngineUnusable) as exc:
            with contextlib.suppress(OSError):
                link.sendall(str(exc).encode("utf-8", "replace"))
            return 1
        logger.setLevel(logging.NOTSET)
        diagnostics = Diagnostics(self._configuration.options, self._output, write)
        try:
            diagnostics.replace_others()
            tell()
            with contextlib.suppress(OSError):
                # If the parent has ended, the link is readable.
                link.sendall(b"ready")
            reloader = Reloader(self._configuration, server, self._output)

            def reload_all() -> str:
                text = reloader.reload()
                assert HANGUP is not None
                self._signal_parent(HANGUP)
                return text

            def hand_over() -> list[socket.socket]:
                sockets = [sock.dup() for sock in [*server.sockets, *self._sockets_of_others]]
                self._signal_parent(signal.SIGTERM)
                return sockets

            console = console_of(server, reload_all, hand_over)
            # A successor waits for the end of the console.
            with console if number == 0 else contextlib.nullcontext():
                while link not in (ready := select.select([link, signals], [], [], _PERIOD)[0]):
                    came = signals.recv(4096) if ready else b""
                    if any(signum != HANGUP for signum in came):
                        break
                    if came:
                        with contextlib.suppress(WrongSetting):
                            reloader.reload()
                    reloader.look()
                    tell()
                self._close_sockets_of_others()
                server.stop()
        finally:
            server.stop()
            if writer is not None:
                writer.close()
        return 0

    def _signal_parent(self, signum: signal.Signals) -> None:
        """Send a signal from a worker to its parent, unless that has ended."""
        if os.getppid() == self._parent:
            os.kill(self._parent, signum)

    def _close_sockets_of_others(self) -> None:
        """Close the sockets of the other workers, in a worker."""
        for sock in self._sockets_of_others:
            sock.close()
        self._sockets_of_others.clear()

    def _plan(self, worker: Worker, why: str) -> None:
        """Note when to start a worker again that has ended."""
        now = time.monotonic()
        if now - worker.born >= _SHORT_LIFE:
            worker.pause = 0.0
        pause = worker.pause
        worker.pause = min(2 * pause or _BACK_OFF, _LONGEST_BACK_OFF)
        worker.due = now + pause
        when = f" in {pause:g} s" if pause else ""
        _tell(f"{worker.name} {why}; it is started again{when}")

    # Waiting.

    def _wait(self, timeout: float | None, *, reads_logs: bool = True) -> None:
        """Wait for a signal, a line, or the end of a worker, and take note of it."""
        links = {
            worker.link: worker
            for worker in self._workers
            if worker.link is not None and not worker.is_ready
        }
        pipes = {worker.pipe: worker for worker in self._workers if worker.pipe is not None}
        # If the log takes no lines, none are read: the workers then drop and count them.
        writes = bool(self._lines)
        reading: list[socket.socket | int] = [self._wakeup, *links]
        if reads_logs and not writes:
            reading += pipes
        writing = [self._output] if writes and self._output is not None else []
        readable, writable, _ = select.select(reading, writing, [], timeout)
        if writable:
            self._write()
        for each in readable:
            if isinstance(each, int):
                self._read_log(pipes[each])
            elif each is not self._wakeup:
                self._read_link(links[each])
        if self._wakeup in readable:
            came = self._wakeup.recv(4096)
            self._handle(came)
            for worker in self._workers:
                self._reap(worker)

    def _handle(self, came: bytes) -> None:
        """Do what signals ask for, but for a stop, which is noted."""
        for signum in came:
            if signum == HANGUP and (self._terminal is None or os.isatty(self._terminal)):
                self._manager.tell_reloading()
                # The workers log what was wrong. Those that start later have these settings, too.
                with contextlib.suppress(WrongSetting):
                    self._configuration.reload()
                self._signal(HANGUP)
                self._manager.tell(READY=1)
            elif signum == REOPEN:
                try:
                    reopen_log(self._configuration.options, self._output)
                except OSError as exc:
                    _tell(f"cannot open the log anew: {exc.strerror}")
            elif signum != signal.SIGCHLD:
                self._signals.append(signum)

    def _read_link(self, worker: Worker) -> None:
        assert worker.link is not None
        worker.said += (data := worker.link.recv(4096))
        if not data:
            worker.link.close()
            worker.link = None

    def _reap(self, worker: Worker) -> None:
        """Take note of a worker's end, if it has ended."""
        if not worker.pid:
            return
        pid, status = os.waitpid(worker.pid, os.WNOHANG)
        if not pid:
            return
        worker.pid = 0
        self._board.note_end(worker.number)
        while worker.link is not None and not worker.is_ready:
            self._read_link(worker)
        while self._output is not None and worker.pipe is not None:
            self._read_log(worker)
        worker.forget()
        if self._signals or not self._is_up:
            return
        code = os.waitstatus_to_exitcode(status)
        if worker.why:
            self._plan(worker, f"cannot start: {worker.why}")
        elif code < 0:
            self._plan(worker, f"was ended by signal {-code} ({signal.strsignal(-code)})")
        else:
            self._plan(worker, f"has ended with exit code {code}")

    # The log.

    def _read_log(self, worker: Worker) -> None:
        """Read from the pipe of a worker, and queue whole lines."""
        assert worker.pipe is not None
        data = os.read(worker.pipe, 65536)
        if not data:
            worker.close_pipe()
        head, newline, tail = data.rpartition(b"\n")
        if newline:
            self._lines += worker.rest + head + newline
            worker.rest.clear()
        worker.rest += tail

    def _write(self) -> None:
        """Write as much of the queued lines as certainly fits."""
        assert self._output is not None
        try:
            self._is_writing = True
            done = os.write(self._output, self._lines[:_WRITE])
            self._is_writing = False
            del self._lines[:done]
        except BlockingIOError:
            self._is_writing = False  # Another process has taken the space.
        except _Stopped:
            pass  # If the write was done, a piece is written twice. The process ends now.
        except OSError:
            self._is_writing = False
            # The terminal is closed, there is no reader, or the disk is full: go on without.
            self._output = None
            self._lines.clear()
            for worker in self._workers:
                worker.close_pipe()

    # Stopping.

    def _give_up(self, why: str) -> int:
        """Stop what has started, and tell why the server cannot start. Returns the exit code."""
        self._stop()
        _tell(why)
        return 1

    def _stop(self) -> int:
        """Stop the workers; end this process at once if the same signal comes again."""
        self._close_sockets()
        self._signal(signal.SIGTERM)
        deadline = time.monotonic() + _STOP
        is_late = False
        while alive := [worker for worker in self._workers if worker.pid]:
            again = [each for each in self._signals if self._signals.count(each) > 1]
            if again:
                self._signal(signal.SIGKILL)
                signal.signal(again[0], signal.SIG_DFL)
                os.kill(os.getpid(), again[0])
            left = deadline - time.monotonic()
            if left <= 0 and not is_late:
                is_late = True
                for worker in alive:
                    _tell(f"{worker.name} has not stopped in time, and is killed")
                self._signal(signal.SIGKILL)
            self._wait(None if is_late else left)
        deadline = time.monotonic() + _LAST_LINES
        while self._lines and (left := deadline - time.monotonic()) > 0:
            self._wait(left, reads_logs=False)
        return 0

    def _signal(self, signum: signal.Signals) -> None:
        for worker in self._workers:
            if worker.pid:
                os.kill(worker.pid, signum)

    def _close_sockets(self) -> None:
        for sockets in self._sockets:
            for sock in sockets:
                sock.close()


def _tell(text: str) -> None:
    if sys.stderr is not None:
        with contextlib.suppress(OSError):
            print(text, file=sys.stderr, flush=True)
