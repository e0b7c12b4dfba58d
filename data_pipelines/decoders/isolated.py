"""Decoding in a child process: a decoder that crashes or hangs costs one sample, not the run.

No exception handler helps against a library that aborts on damaged bytes; in a worker of a data
loader it ends the training. The child is this module as a program. Both sides share one file in
memory: the video's bytes lie there while it is opened, then the frames; requests and answers are
lines of JSON. What libraries write on the child's stdout and stderr is dropped.
"""

from __future__ import annotations

import importlib
import json
import math
import os
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Sequence
from dataclasses import asdict
from typing import Any

import numpy as np

from data_pipelines.decoders.base import VideoDecoder
from data_pipelines.frames import DecodeError, VideoMetadata

START_TIMEOUT_SECONDS = 120.0
KEPT_BYTES = 64 * 1024**2  # of the shared file, from one video to the next


class DecodingProcess:
    """A child process that decodes one video after the other; it is started again when it ends.

    May be carried into other processes, by fork or as a pickle: each starts a child of its own.

    Args:
        decoder: what decodes in the child, which imports its module by name.
        timeout_seconds: the child may work so long on one video.
        memory_gibibytes: the child may take so much more than it does when it starts, so that a
            header which claims a huge picture ends the child and not the machine.
    """

    def __init__(
        self,
        decoder: type[VideoDecoder],
        *,
        timeout_seconds: float = 30.0,
        memory_gibibytes: float = 8.0,
    ) -> None:
        self.decoder = decoder
        self.timeout_seconds = timeout_seconds
        self.memory_gibibytes = memory_gibibytes
        self._child: _Child | None = None
        self._video: IsolatedVideo | None = None

    def open(self, data: bytes, name: str) -> IsolatedVideo:
        """Opens a video in the child; the one that was open before is closed.

        Raises:
            DecodeError: if the bytes are no video that the decoder can read.
        """
        if self._child is not None and self._child.owner != os.getpid():
            self._child = None  # the child of the process that this one was forked from
        self._video = None
        self._video = IsolatedVideo(data, name, self)
        return self._video

    def close(self) -> None:
        """Ends the child."""
        child, self._child, self._video = self._child, None, None
        if child is not None and child.owner == os.getpid():
            child.end()

    def __enter__(self) -> DecodingProcess:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def __del__(self) -> None:
        self.close()

    def __reduce__(self) -> tuple[Any, ...]:
        return _decoding_process, (self.decoder, self.timeout_seconds, self.memory_gibibytes)

    def child(self) -> _Child:
        """Returns the child, a new one if it ended."""
        if self._child is None:
            self._child = _Child(self.decoder, self.memory_gibibytes)
        return self._child

    def serves(self, video: IsolatedVideo) -> bool:
        """Returns whether this is the video that is open in the child."""
        return self._video is video and self._child is not None


class IsolatedVideo(VideoDecoder):
    """One video, open in the child. Made by `DecodingProcess.open`."""

    def __init__(self, data: bytes, name: str, process: DecodingProcess) -> None:
        super().__init__(data, name)
        self._process = process
        self._seconds_left = process.timeout_seconds
        child = process.child()
        child.write(data)
        (num_frames,) = self._ask(child, {"open": name, "size": len(data)})
        self._timestamps_seconds = child.read((num_frames,), np.dtype(np.float64))

    def metadata(self) -> VideoMetadata:
        """Returns frame count, rate, duration and size."""
        (values,) = self._ask(self._open_child(), {"metadata": True})
        return VideoMetadata(**values)

    def timestamps_seconds(self) -> np.ndarray:
        """Returns when each frame starts: (num_frames,), float64, the first one 0."""
        return self._timestamps_seconds

    def close(self) -> None:
        """Lets the child free the video, and what both share."""
        if self._process.serves(self):
            self._process._video = None
            self._ask(self._process.child(), {"close": True})

    def _decode(self, indices: Sequence[int]) -> np.ndarray:
        child = self._open_child()
        shape = self._ask(child, {"indices": list(indices)})
        return child.read(shape, np.dtype(np.uint8))

    def _open_child(self) -> _Child:
        if not self._process.serves(self):
            raise ValueError(f"{self.name}: the decoder is closed")
        return self._process.child()

    def _ask(self, child: _Child, question: dict[str, Any]) -> list[Any]:
        """Returns the child's answer; its end, if the child ends, is an error of this video."""
        started = time.monotonic()
        answer = child.ask(question, self._seconds_left)
        self._seconds_left -= time.monotonic() - started
        if answer is None:
            self._process._child = None
            raise DecodeError(self.name, self._cause_of_death(child))
        if "refused" in answer:
            raise DecodeError(self.name, answer["refused"])
        return answer["answer"]

    def _cause_of_death(self, child: _Child) -> str:
        status = child.end()
        if self._seconds_left <= 0:
            return f"decoding took more than {self._process.timeout_seconds:g} s"
        end = f"signal {-status}" if status < 0 else f"status {status}"
        return f"{self._process.decoder.__name__} crashed on it ({end})"


class _Child:
    """The running program, and the file that it shares with us."""

    def __init__(self, decoder: type[VideoDecoder], memory_gibibytes: float) -> None:
        self.owner = os.getpid()
        self._shared = _anonymous_file()
        self._program = subprocess.Popen(
            [
                *(sys.executable, "-m", "data_pipelines.decoders.isolated"),
                *(decoder.__module__, decoder.__qualname__),
                *(str(self._shared), str(memory_gibibytes)),
            ],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,  # libraries' complaints; ours come back as reasons
            pass_fds=(self._shared,),
            text=True,
            encoding="utf-8",
            env={**os.environ, "PYTHONPATH": os.pathsep.join(path for path in sys.path if path)},
        )
        if self.ask({"start": True}, START_TIMEOUT_SECONDS) is None:
            status = self.end()
            raise RuntimeError(f"the decoding process did not start (status {status})")

    def ask(self, question: dict[str, Any], timeout_seconds: float) -> dict[str, Any] | None:
        """Returns the answer; None if the child ended, or was ended because it took too long."""
        assert self._program.stdin is not None and self._program.stdout is not None
        timer = threading.Timer(max(timeout_seconds, 0.0), self._program.kill)
        timer.start()
        try:
            line = json.dumps({**question, "seconds": math.ceil(timeout_seconds) + 1})
            self._program.stdin.write(line + "\n")
            self._program.stdin.flush()
            answer = self._program.stdout.readline()
        except BrokenPipeError:
            return None
        finally:
            timer.cancel()
        return json.loads(answer) if answer.endswith("\n") else None

    def write(self, data: bytes) -> None:
        """Puts bytes where the child finds them."""
        _write_all(self._shared, memoryview(data))

    def read(self, shape: Sequence[int], dtype: np.dtype) -> np.ndarray:
        """Returns a copy of the array that the child left."""
        array = np.empty(shape, dtype)
        _read_all(self._shared, array.reshape(-1).view(np.uint8).data)
        return array

    def end(self) -> int:
        """Ends the child if it still runs, and returns its status."""
        running = self._program.poll() is None
        if running:
            self._program.kill()
        self._program.communicate()
        if self._shared >= 0:
            os.close(self._shared)
            self._shared = -1
        return self._program.returncode


def serve(decoder: type[VideoDecoder], shared: int) -> None:
    """Answers each line of the standard input, until it ends."""
    answers = os.fdopen(os.dup(1), "w", encoding="utf-8")
    os.dup2(2, 1)  # a library that prints must not answer
    video: VideoDecoder | None = None
    for line in sys.stdin:
        question = json.loads(line)
        _end_in(question["seconds"])
        answer: dict[str, Any]
        try:
            if "open" in question:
                data = bytearray(question["size"])
                _read_all(shared, memoryview(data))
                video = decoder(bytes(data), question["open"])
                seconds = np.ascontiguousarray(video.timestamps_seconds(), np.float64)
                answer = {"answer": _leave(shared, seconds)}
            elif "indices" in question and video is not None:
                answer = {"answer": _leave(shared, video._decode(question["indices"]))}
            elif "metadata" in question and video is not None:
                answer = {"answer": [asdict(video.metadata())]}
            else:
                if video is not None:
                    video.close()
                video = None
                if os.fstat(shared).st_size > KEPT_BYTES:
                    os.ftruncate(shared, 0)
                answer = {"answer": []}
        except DecodeError as error:
            answer = {"refused": error.reason}
        except MemoryError:
            answer = {"refused": "decoding it takes more memory than is allowed"}
        except Exception as error:  # whatever damaged bytes do to a decoder, it is the video's
            answer = {"refused": f"{decoder.__name__}: {type(error).__name__}: {error}"}
        _end_in(0)
        print(json.dumps(answer), file=answers, flush=True)


def main(argv: list[str]) -> None:
    """Starts the child: module and class of the decoder, the shared file, the memory limit."""
    for number in (signal.SIGINT, signal.SIGTERM):  # are for the parent; we end when it does
        signal.signal(number, signal.SIG_IGN)
    module, class_name, shared, memory_gibibytes = argv
    decoder = getattr(importlib.import_module(module), class_name)
    _limit_memory(float(memory_gibibytes))
    serve(decoder, int(shared))


def _decoding_process(decoder: type[VideoDecoder], *limits: float) -> DecodingProcess:
    return DecodingProcess(decoder, timeout_seconds=limits[0], memory_gibibytes=limits[1])


def _anonymous_file() -> int:
    """Returns a file in memory that nobody else can name, and that needs no cleaning up."""
    if hasattr(os, "memfd_create"):
        return os.memfd_create("decoded-frames")
    with tempfile.TemporaryFile() as file:
        return os.dup(file.fileno())


def _leave(shared: int, array: np.ndarray) -> list[int]:
    """Puts an array where the parent finds it, and returns its shape."""
    _write_all(shared, np.ascontiguousarray(array).reshape(-1).view(np.uint8).data)
    return list(array.shape)


def _write_all(file: int, data: memoryview) -> None:
    place = 0
    while place < len(data):  # one call moves 2 GiB at most
        place += os.pwrite(file, data[place:], place)


def _read_all(file: int, into: memoryview) -> None:
    place = 0
    while place < len(into):
        count = os.preadv(file, [into[place:]], place)
        if count == 0:
            raise EOFError(f"{len(into)} bytes expected, {place} found")
        place += count


def _end_in(seconds: int) -> None:
    """Ends this process when its parent, who should have done so, is no longer there; 0: never."""
    if hasattr(signal, "alarm"):
        signal.alarm(seconds)


def _limit_memory(gibibytes: float) -> None:
    try:
        import resource

        with open("/proc/self/statm") as file:
            used = int(file.read().split()[0]) * resource.getpagesize()
    except (ImportError, OSError):
        return  # no limit on this system
    limit = used + int(gibibytes * 1024**3)
    resource.setrlimit(resource.RLIMIT_AS, (limit, limit))


if __name__ == "__main__":
    main(sys.argv[1:])
