"""Probing videos in a child process: a decoder that crashes costs one video, not the whole pack.

decord 0.6 aborts or segfaults on some damaged files, and no exception handler helps then. The
child is this module as a program; it speaks JSON, one line a video, which the video's bytes may
follow. Videos are encoded anew there too; the answer is then followed by the new files' bytes.
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import threading
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import IO, Any, NamedTuple, cast

from data_pipelines.decoders.base import DecoderName, decoder_class
from data_pipelines.frames import DecodeError, VideoMetadata
from data_pipelines.manifest import SkippedVideo, VerifyFrames, VideoRow, read_row
from data_pipelines.recoding import RecodedScene, RecodeSettings, recode
from data_pipelines.video_sources import read_source

# A scheduler, a user or the kernel ends processes with these; a faulty decoder does not.
_SIGNALS_FROM_OUTSIDE = (signal.SIGINT, signal.SIGTERM, getattr(signal, "SIGKILL", 9))


@dataclass(frozen=True)
class _Death:
    """The child ended instead of answering."""

    reason: str
    was_from_outside: bool = False


class _Answer(NamedTuple):
    """What the child said, and the files that followed."""

    values: dict[str, Any]
    files: list[bytes]


class ProbeProcess:
    """Reads rows of a manifest in a child process, which is started again after a crash.

    Args:
        folder: that the videos' paths are relative to, or a URL.
        decoder: which decoder to trust.
        verify_frames: decode the first and the last frame ("ends"), or all of them.
        timeout_seconds: a video that takes longer is skipped.
        recode_settings: how `recode` encodes.
    """

    def __init__(
        self,
        folder: str | Path,
        *,
        decoder: DecoderName,
        verify_frames: VerifyFrames,
        timeout_seconds: float = 600.0,
        recode_settings: RecodeSettings | None = None,
    ) -> None:
        decoder_class(decoder)  # not installed: say so here, not once per video
        self.folder = str(folder)
        self.decoder = decoder
        self.verify_frames = verify_frames
        self.timeout_seconds = timeout_seconds
        self.recode_settings = recode_settings
        self._child: subprocess.Popen[bytes] | None = None
        self._is_killed = False

    def read_row(self, path: str, data: bytes | None = None) -> VideoRow | SkippedVideo:
        """Returns the row of a video, or why it cannot be read, a crash included.

        Args:
            path: relative to the folder.
            data: the file's bytes; None lets the child read them.
        """
        answer = self._ask_twice({"path": path}, data)
        if isinstance(answer, _Death):
            return SkippedVideo(path, answer.reason)
        return _row_from_json(path, answer.values)

    def recode(
        self,
        path: str,
        data: bytes | None = None,
        *,
        start_seconds: float | None = None,
        end_seconds: float | None = None,
    ) -> tuple[VideoMetadata, list[RecodedScene]] | SkippedVideo:
        """Encodes a video, or the part from start to end, anew: as `recoding.recode`.

        Args:
            path: relative to the folder.
            data: the file's bytes; None lets the child read them.
            start_seconds: where to begin; None: at the beginning.
            end_seconds: where to end; None: at the end.
        """
        assert self.recode_settings is not None, "the settings are given to the constructor"
        answer = self._ask_twice(
            {
                "path": path,
                "recode": self.recode_settings.to_json(),
                "start_seconds": start_seconds,
                "end_seconds": end_seconds,
            },
            data,
        )
        if isinstance(answer, _Death):
            return SkippedVideo(path, answer.reason)
        if "reason" in answer.values:
            return SkippedVideo(path, answer.values["reason"])
        scenes = [
            RecodedScene(data, VideoMetadata(**scene["metadata"]), scene["start_seconds"])
            for scene, data in zip(answer.values["scenes"], answer.files, strict=True)
        ]
        return VideoMetadata(**answer.values["metadata"]), scenes

    def kill(self) -> None:
        """Ends the child from another thread; whoever waits for an answer gets a poor one."""
        self._is_killed = True
        if self._child is not None:
            self._child.kill()

    def close(self) -> None:
        """Ends the child."""
        if self._child is not None:
            self._child.kill()
            self._child.communicate()
            self._child = None

    def __enter__(self) -> ProbeProcess:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _ask_twice(self, request: dict[str, Any], data: bytes | None) -> _Answer | _Death:
        """Asks again if the child was killed, which was no fault of the video's."""
        request = {"folder": self.folder, **request}
        if data is not None:
            request["num_bytes"] = len(data)
        answer = self._ask(request, data or b"")
        if isinstance(answer, _Death) and answer.was_from_outside and not self._is_killed:
            answer = self._ask(request, data or b"")
        return answer

    def _ask(self, request: dict[str, Any], data: bytes) -> _Answer | _Death:
        """Sends a request to the child, which is started if there is none."""
        if self._child is None or self._child.poll() is not None:
            self._child = self._start()
        child = self._child
        assert child.stdin is not None and child.stdout is not None
        timer = threading.Timer(self.timeout_seconds, child.kill)
        timer.start()
        try:
            child.stdin.write(json.dumps(request).encode() + b"\n")
            child.stdin.write(data)
            child.stdin.flush()
            answer = _read_answer(child.stdout)
        except BrokenPipeError:
            answer = None
        finally:
            was_in_time = timer.is_alive()
            timer.cancel()
        return answer or self._death(child, was_in_time)

    def _start(self) -> subprocess.Popen[bytes]:
        program = [sys.executable, "-m", "data_pipelines.isolated_probe"]
        return subprocess.Popen(
            [*program, self.decoder, self.verify_frames],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,  # libraries' complaints; ours come back as reasons
            start_new_session=True,  # Ctrl-C is for the parent: the child's end would cost a video
            env={**os.environ, "PYTHONPATH": os.pathsep.join(path for path in sys.path if path)},
        )

    def _death(self, child: subprocess.Popen[bytes], was_in_time: bool) -> _Death:
        status = child.wait()
        if not was_in_time:
            return _Death(f"decoding took more than {self.timeout_seconds:g} s")
        end = f"signal {-status}" if status < 0 else f"status {status}"
        return _Death(
            f"{self.decoder} crashed on it ({end})",
            was_from_outside=-status in _SIGNALS_FROM_OUTSIDE,
        )


def main(argv: list[str]) -> None:
    """Answers each line of the standard input with a line, and files if it asked for them."""
    decoder = cast(DecoderName, argv[0])  # the parent has tried it
    verify_frames: VerifyFrames = "all" if argv[1] == "all" else "ends"
    for line in sys.stdin.buffer:
        request = json.loads(line)
        files: list[bytes] = []
        data = None
        if "num_bytes" in request:
            data = sys.stdin.buffer.read(request["num_bytes"])
        if "recode" in request:
            values, files = _recode(request, data, decoder, verify_frames)
        else:
            place = request["folder"], request["path"], data
            values = asdict(read_row(*place, decoder=decoder, verify_frames=verify_frames))
        values["num_bytes_of_files"] = [len(file) for file in files]
        sys.stdout.buffer.write(json.dumps(values).encode() + b"\n")
        for file in files:
            sys.stdout.buffer.write(file)
        sys.stdout.buffer.flush()


def _recode(
    request: dict[str, Any],
    data: bytes | None,
    decoder: DecoderName,
    verify_frames: VerifyFrames,
) -> tuple[dict[str, Any], list[bytes]]:
    """Returns the answer to a request to encode a video anew, and the new files."""
    try:
        metadata, scenes = recode(
            read_source(request["folder"], request["path"]) if data is None else data,
            request["path"],
            RecodeSettings(**request["recode"]),
            decoder=decoder,
            verify_frames=verify_frames,
            start_seconds=request["start_seconds"],
            end_seconds=request["end_seconds"],
        )
    except DecodeError as error:
        return {"reason": error.reason}, []
    except OSError as error:
        return {"reason": error.strerror or str(error)}, []
    about = [
        {"metadata": asdict(scene.metadata), "start_seconds": scene.start_seconds}
        for scene in scenes
    ]
    return {"metadata": asdict(metadata), "scenes": about}, [scene.data for scene in scenes]


def _read_answer(pipe: IO[bytes]) -> _Answer | None:
    """Reads a line of JSON and the files after it; None if the child ended before it was whole."""
    line = pipe.readline()
    if not line.endswith(b"\n"):
        return None
    values = json.loads(line)
    sizes = values.pop("num_bytes_of_files")
    files = [pipe.read(size) for size in sizes]
    return _Answer(values, files) if [len(file) for file in files] == sizes else None


def _row_from_json(path: str, values: dict) -> VideoRow | SkippedVideo:
    if "reason" in values:
        return SkippedVideo(path, values["reason"])
    return VideoRow(path, VideoMetadata(**values["metadata"]), values["label"])


if __name__ == "__main__":
    main(sys.argv[1:])
