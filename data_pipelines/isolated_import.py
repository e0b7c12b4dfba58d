"""Reading episodes in a child process: what crashes or hangs there costs one episode.

Videos of other programs are decoded as they come, and no exception handler helps against a decoder
that aborts on damaged bytes. The child gets the opened importer, reads one episode after the other,
encodes its frames and gives back the members of its sample. What libraries write on the child's
stdout and stderr is dropped.
"""

from __future__ import annotations

import multiprocessing
import os
import signal
import sys
from multiprocessing.connection import Connection
from typing import Any, Literal, NamedTuple

from data_pipelines.frames import DecodeError
from data_pipelines.importers.base import Importer
from data_pipelines.manifest import SkippedVideo
from data_pipelines.samples import Sample

START_TIMEOUT_SECONDS = 120.0
EPISODE_TIMEOUT_SECONDS = 3600.0

# A scheduler, a user or the kernel ends processes with these; a faulty decoder does not.
_SIGNALS_FROM_OUTSIDE = (signal.SIGINT, signal.SIGTERM, getattr(signal, "SIGKILL", 9))

Packed = tuple[Sample, dict[str, bytes]]  # a sample and its members, extension -> bytes


class VideoSettings(NamedTuple):
    """How the frames of an episode are encoded.

    Attributes:
        crf: H.264 quality, 0 (lossless) to 51.
        keyframe_interval: frames between keyframes; short, for windows start anywhere.
    """

    crf: int = 18
    keyframe_interval: int = 8


class _Answer(NamedTuple):
    """What the child says of an episode."""

    kind: Literal["packed", "skipped", "not installed"]
    packed: Packed | None = None
    reason: str = ""


class _Death(NamedTuple):
    """The child ended instead of answering."""

    reason: str
    was_from_outside: bool = False


class ImportProcess:
    """Reads the episodes of an importer in a child process, which is started again after a crash.

    Python starts the child as it starts workers by "spawn": a program that makes one at its top
    level must do so below `if __name__ == "__main__"`.

    Args:
        importer: an opened source.
        video: how frames are encoded.
        timeout_seconds: an episode that takes longer is skipped.
    """

    def __init__(
        self,
        importer: Importer,
        video: VideoSettings | None = None,
        *,
        timeout_seconds: float = EPISODE_TIMEOUT_SECONDS,
    ) -> None:
        self.importer = importer
        self.video = video or VideoSettings()
        self.timeout_seconds = timeout_seconds
        self._child: Any = None  # a multiprocessing.Process, whose class depends on the system
        self._pipe: Connection | None = None
        self._is_killed = False

    def read(self, number: int) -> Packed | SkippedVideo:
        """Returns the sample of an episode, or why it gives none, a crash included.

        Raises:
            ImportError: if a library is missing that reads it.
            RuntimeError: if no child can be started.
        """
        name = self.importer.listed[number].name
        answer = self._ask(number)
        if isinstance(answer, _Death) and answer.was_from_outside and not self._is_killed:
            answer = self._ask(number)  # it was no fault of the episode's
        if isinstance(answer, _Death) or answer.packed is None:
            if isinstance(answer, _Answer) and answer.kind == "not installed":
                raise ImportError(answer.reason)
            return SkippedVideo(name, answer.reason)
        return answer.packed

    def kill(self) -> None:
        """Ends the child from another thread; whoever waits for an answer gets a poor one."""
        self._is_killed = True
        if self._child is not None:
            self._child.kill()

    def close(self) -> None:
        """Ends the child."""
        if self._child is not None:
            self._child.kill()
            self._forget()

    def _ask(self, number: int) -> _Answer | _Death:
        if self._child is None:
            self._start()
        child, pipe = self._child, self._pipe
        if child is None or pipe is None:  # ended by `kill` before it listened
            return _Death("the process that was to read it was ended")
        try:
            pipe.send(number)
            if not pipe.poll(self.timeout_seconds):
                child.kill()
                self._forget()
                return _Death(f"reading it took more than {self.timeout_seconds:g} s")
            return pipe.recv()
        except (EOFError, OSError):
            status = self._forget()
        end = f"signal {-status}" if status < 0 else f"status {status}"
        return _Death(
            f"the process that read it crashed on it ({end})",
            was_from_outside=-status in _SIGNALS_FROM_OUTSIDE,
        )

    def _start(self) -> None:
        """Starts the child, and waits until it listens: a death before that is no episode's."""
        context = multiprocessing.get_context("spawn")
        self._pipe, theirs = context.Pipe()
        arguments = (self.importer, self.video, theirs)
        child = context.Process(target=_serve, args=arguments, daemon=True)
        child.start()
        theirs.close()
        self._child = child
        try:
            if self._pipe.poll(START_TIMEOUT_SECONDS):
                self._pipe.recv()
                return
            self._child.kill()
        except (EOFError, OSError):
            pass
        status = self._forget()
        if not self._is_killed:
            raise RuntimeError(
                f"the process that reads episodes did not start (status {status}); a script that "
                "imports must do so below: if __name__ == '__main__'"
            )

    def _forget(self) -> int:
        """Waits for the child's end and returns its status."""
        child, self._child = self._child, None
        child.join()
        if self._pipe is not None:
            self._pipe.close()
        self._pipe = None
        return child.exitcode


def _serve(importer: Importer, video: VideoSettings, pipe: Connection) -> None:
    """Answers each number with an episode, until the parent is gone."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is for the parent, which ends us
    _silence()
    pipe.send("ready")
    while True:
        try:
            number = pipe.recv()
        except (EOFError, OSError):
            return
        answer = _answer(importer, video, number)
        try:
            pipe.send(answer)
        except OSError:
            return


def _answer(importer: Importer, video: VideoSettings, number: int) -> _Answer:
    try:
        return _Answer("packed", _packed(importer, video, number))
    except ImportError as error:
        return _Answer("not installed", reason=str(error))
    except DecodeError as error:
        return _Answer("skipped", reason=error.reason)
    except (ValueError, OSError) as error:
        return _Answer("skipped", reason=str(error))
    except MemoryError:
        return _Answer("skipped", reason="reading it takes more memory than there is")
    except Exception as error:  # whatever damaged files do to a library, it is the episode's
        return _Answer("skipped", reason=f"{type(error).__name__}: {error}")


def _packed(importer: Importer, video: VideoSettings, number: int) -> Packed:
    from data_pipelines.shards import trajectory_sample
    from data_pipelines.trajectories import refuse_bad_episode
    from data_pipelines.video_writing import encode_mp4

    episode, listed = importer.episode(number), importer.listed[number]
    refuse_bad_episode(episode, importer.specification)
    data = encode_mp4(
        episode.frames,
        frames_per_second=episode.frames_per_second,
        crf=video.crf,
        keyframe_interval=video.keyframe_interval,
    )
    return trajectory_sample(episode, data, importer.specification, source=listed.name)


def _silence() -> None:
    """Drops what libraries print: they complain of each damaged frame, and name none."""
    sys.stdout.flush()
    sys.stderr.flush()
    nowhere = os.open(os.devnull, os.O_WRONLY)
    os.dup2(nowhere, 1)
    os.dup2(nowhere, 2)
