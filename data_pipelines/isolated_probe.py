"""Probing videos in a child process: a decoder that crashes costs one video, not the whole pack.

decord 0.6 aborts or segfaults on some damaged files, and no exception handler helps then. The
child is this module as a program; it speaks JSON, one line a video.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import threading
from dataclasses import asdict
from pathlib import Path

from data_pipelines.decoders.base import DecoderName, decoder_class
from data_pipelines.frames import VideoMetadata
from data_pipelines.manifest import SkippedVideo, VerifyFrames, VideoRow, read_row


class ProbeProcess:
    """Reads rows of a manifest in a child process, which is started again after a crash.

    Args:
        folder: that the videos' paths are relative to.
        decoder: which decoder to trust.
        verify_frames: decode the first and the last frame ("ends"), or all of them.
        timeout_seconds: a video that takes longer is skipped.
    """

    def __init__(
        self,
        folder: Path,
        *,
        decoder: DecoderName,
        verify_frames: VerifyFrames,
        timeout_seconds: float = 600.0,
    ) -> None:
        decoder_class(decoder)  # not installed: say so here, not once per video
        self.folder = folder
        self.decoder = decoder
        self.verify_frames = verify_frames
        self.timeout_seconds = timeout_seconds
        self._child: subprocess.Popen[str] | None = None

    def read_row(self, path: str) -> VideoRow | SkippedVideo:
        """Returns the row of a video, or why it cannot be read, a crash included."""
        if self._child is None or self._child.poll() is not None:
            self._child = self._start()
        child = self._child
        assert child.stdin is not None and child.stdout is not None
        timer = threading.Timer(self.timeout_seconds, child.kill)
        timer.start()
        try:
            child.stdin.write(json.dumps([str(self.folder), path]) + "\n")
            child.stdin.flush()
            answer = child.stdout.readline()
        except BrokenPipeError:
            answer = ""
        finally:
            was_in_time = timer.is_alive()
            timer.cancel()
        if not answer:
            return SkippedVideo(path, self._cause_of_death(child, was_in_time))
        return _row_from_json(path, json.loads(answer))

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

    def _start(self) -> subprocess.Popen[str]:
        program = [sys.executable, "-m", "data_pipelines.isolated_probe"]
        return subprocess.Popen(
            [*program, self.decoder, self.verify_frames],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,  # libraries' complaints; ours come back as reasons
            text=True,
            encoding="utf-8",
            env={**os.environ, "PYTHONPATH": os.pathsep.join(path for path in sys.path if path)},
        )

    def _cause_of_death(self, child: subprocess.Popen[str], was_in_time: bool) -> str:
        status = child.wait()
        if not was_in_time:
            return f"decoding took more than {self.timeout_seconds:g} s"
        end = f"signal {-status}" if status < 0 else f"status {status}"
        return f"{self.decoder} crashed on it ({end})"


def main(argv: list[str]) -> None:
    """Answers each line of the standard input, [folder, path], with a row as JSON."""
    decoder: DecoderName = "pyav" if argv[0] == "pyav" else "decord"
    verify_frames: VerifyFrames = "all" if argv[1] == "all" else "ends"
    for line in sys.stdin:
        folder, path = json.loads(line)
        row = read_row(Path(folder), path, decoder=decoder, verify_frames=verify_frames)
        print(json.dumps(asdict(row)), flush=True)


def _row_from_json(path: str, values: dict) -> VideoRow | SkippedVideo:
    if "reason" in values:
        return SkippedVideo(path, values["reason"])
    return VideoRow(path, VideoMetadata(**values["metadata"]), values["label"])


if __name__ == "__main__":
    main(sys.argv[1:])
