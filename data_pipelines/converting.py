"""Converting: samples of shards, ours or other programs', become shards of ours.

Videos are copied or encoded anew, each after it was decoded in a child process; pictures are copied
or made smaller; what else a sample holds (captions, classes, states, actions) is copied. The other
direction is in `unpacking`.
"""

from __future__ import annotations

import json
import threading
from collections.abc import Mapping, Sequence
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

from data_pipelines.decoders.base import DecoderName, decoder_class
from data_pipelines.frames import DecodeError, VideoMetadata
from data_pipelines.image_packing import picture_of, smaller_picture
from data_pipelines.isolated_probe import ProbeProcess
from data_pipelines.manifest import SkippedVideo, VerifyFrames
from data_pipelines.pack_plan import (
    SCENE_CHARACTERS,
    ImagePackSettings,
    PackSettings,
    encoder_of,
)
from data_pipelines.packing_engines import LocalEngine
from data_pipelines.recoding import RecodedScene, RecodeSettings
from data_pipelines.sample_copying import (
    Layout,
    NewSet,
    OutgoingSample,
    SampleCopier,
    SetInProgress,
    ShardSet,
    load_sets,
    make_copy_plan,
    places_of,
    refuse_out_in_inputs,
    refuse_repeated_keys,
    unchanged,
)
from data_pipelines.samples import STATES, Sample, parse_json
from data_pipelines.shard_index import Shards
from data_pipelines.shard_jobs import RECODE_TIMEOUT_SECONDS, Packed
from data_pipelines.shard_writing import KEY_CHARACTERS, key_of_path, sample_json
from data_pipelines.tar_headers import ShardError
from data_pipelines.video_sources import VIDEO_EXTENSIONS


def convert_shards(
    shards: Shards,
    out: str | Path,
    *,
    recode: RecodeSettings | None = None,
    decoder: DecoderName = "decord",
    verify_frames: VerifyFrames = "ends",
    num_workers: int = 1,
    layout: Layout | None = None,
) -> NewSet:
    """Writes samples into a new set with an index; a run that was stopped goes on.

    A sample's label is its JSON's, else its member `cls`; keys keep letters, digits, '_', '-' and
    '/'. The other values of a foreign JSON stay in it.

    Args:
        shards: as for `ShardIndex.load`; tars without an index too.
        out: where the shards and `index.json` go.
        recode: how videos are encoded anew; None leaves their bytes as they are. Of pictures only
            the short side counts, and makes them JPEG as `pack_images` does.
        decoder: which decoder must be able to read a video.
        verify_frames: decode the first and last frame of each video ("ends"), or all of them.
        num_workers: processes that decode, each with a shard of its own.
        layout: how large shards are.

    Raises:
        FileNotFoundError: if a set is missing.
        ValueError: if trajectories are to change their rate or to be split, if pictures are to
            be encoded like videos, or if nothing can be read.
        ShardError: if a key comes twice, if `out` holds other shards or is one of the sets, or if
            a set cannot be read.
    """
    layout = layout or Layout()
    decoder_class(decoder)  # not installed: say so before the work
    LocalEngine(num_workers)  # refuses what is below 1
    sets = load_sets(shards)
    refuse_out_in_inputs(out, sets)
    samples = [sample for one in sets for sample in one.index.samples]
    _refuse_wrong_recoding(sets, samples, recode)
    refuse_repeated_keys(unchanged(samples), advice="merge the sets first, with --prefix-keys")
    settings = PackSettings(
        layout.samples_per_shard, layout.max_shard_bytes, decoder, verify_frames, recode
    )
    outgoing = _with_plain_keys(samples, settings)
    plan = make_copy_plan(
        outgoing,
        _about_conversion(samples, settings),
        layout,
        specification=sets[0].index.specification,
    )
    with SetInProgress.of_sets(sets, out, outgoing, plan, overwrite=layout.overwrite) as new:
        folder = new.staging.folder
        new.write(lambda: Converter(new.outgoing, settings, folder), num_workers=num_workers)
        return new.finish(places_of(sets))


class Converter(SampleCopier):
    """Decodes each video or picture, and encodes it anew where that is asked for.

    Args:
        outgoing: key in the new set -> sample.
        settings: what the new samples look like.
        folder: where a video may lie for a moment, for the child process to read.
    """

    def __init__(
        self, outgoing: Mapping[str, OutgoingSample], settings: PackSettings, folder: Path
    ) -> None:
        super().__init__(outgoing)
        self.settings = settings
        self.file = folder / f"video-{threading.get_ident()}.tmp"
        self.probe = ProbeProcess(
            folder,
            decoder=settings.decoder,
            verify_frames=settings.verify_frames,
            timeout_seconds=600.0 if settings.recode is None else RECODE_TIMEOUT_SECONDS,
            recode_settings=settings.recode,
        )

    def make(self, one: OutgoingSample, members: dict[str, bytes]) -> list[Packed | SkippedVideo]:
        """Returns what a sample becomes, given the bytes of its members."""
        if one.sample.is_image:
            return self._picture(one, members)
        extension = one.sample.video_extension
        video = members[extension]
        members = {name: data for name, data in members.items() if name not in VIDEO_EXTENSIONS}
        self.file.write_bytes(video)
        if self.settings.recode is not None:
            return self._recode(one, members)
        row = self.probe.read_row(self.file.name)
        if isinstance(row, SkippedVideo):
            return [SkippedVideo(one.sample.key, row.reason)]
        self._refuse_other_length(one.sample, row.metadata)
        about = _about(one, members, row.metadata, len(video))
        return [(about[0], {extension: video, **members, "json": about[1]})]

    def stop(self) -> None:
        """Ends the child too."""
        super().stop()
        self.probe.kill()

    def close(self) -> None:
        """Closes the shards and ends the child."""
        super().close()
        self.probe.close()
        self.file.unlink(missing_ok=True)

    def _picture(
        self, one: OutgoingSample, members: dict[str, bytes]
    ) -> list[Packed | SkippedVideo]:
        old_extension, recode = one.sample.image_extension, self.settings.recode
        try:
            picture = picture_of(members[old_extension], one.sample.key)
        except DecodeError as error:
            return [SkippedVideo(one.sample.key, error.reason)]
        members = {name: data for name, data in members.items() if name != old_extension}
        more = {}
        if recode is not None and recode.short_side is not None:
            more = {"original": picture.about_original}
            picture = smaller_picture(picture, recode.short_side)
        if picture.extension in members:
            raise ShardError(
                f"its picture '{old_extension}' is a {picture.extension}, and another has that name"
            )
        sample, about = _about(one, members, picture.metadata, len(picture.data), **more)
        return [(sample, {picture.extension: picture.data, **members, "json": about})]

    def _recode(
        self, one: OutgoingSample, members: dict[str, bytes]
    ) -> list[Packed | SkippedVideo]:
        answer = self.probe.recode(self.file.name)
        if isinstance(answer, SkippedVideo):
            return [SkippedVideo(one.sample.key, answer.reason)]
        original, scenes = answer
        self._refuse_other_length(one.sample, original)
        for scene in scenes:
            self._refuse_other_length(one.sample, scene.metadata)
        splits = self.settings.splits_scenes
        return [
            self._scene(_scene_of(one, number) if splits else one, members, original, scene)
            for number, scene in enumerate(scenes)
        ]

    def _scene(
        self,
        one: OutgoingSample,
        members: dict[str, bytes],
        original: VideoMetadata,
        scene: RecodedScene,
    ) -> Packed:
        assert self.settings.recode is not None
        size = one.sample.members[one.sample.video_extension].size
        sample, about = _about(
            one,
            members,
            scene.metadata,
            len(scene.data),
            start_seconds=_start_seconds(members) + scene.start_seconds,
            original={**asdict(original), "num_bytes": size},
            recoded=self.settings.recode.to_json(),
        )
        return sample, {"mp4": scene.data, **members, "json": about}

    def _refuse_other_length(self, sample: Sample, metadata: VideoMetadata) -> None:
        """Raises if a trajectory's frames are not as many as its states."""
        if not sample.is_trajectory:
            return
        num_states = len(self.reader.read_array(sample, STATES))
        if metadata.num_frames != num_states:
            raise ShardError(f"{metadata.num_frames} frames and {num_states} states")


def _refuse_wrong_recoding(
    sets: Sequence[ShardSet], samples: Sequence[Sample], recode: RecodeSettings | None
) -> None:
    """Raises if what is to be encoded anew cannot be, or not like this."""
    if recode is None:
        return
    if sets[0].index.specification is not None:
        _refuse_other_times(recode)
    is_for_pictures = (
        recode == RecodeSettings(short_side=recode.short_side) and recode.short_side is not None
    )
    if not is_for_pictures and any(sample.is_image for sample in samples):
        raise ValueError(
            "these shards hold images, which can only be made smaller (--short-side); leave out "
            "--fps, --gop, --codec, --crf and --split-scenes"
        )


def _about_conversion(samples: Sequence[Sample], settings: PackSettings) -> dict[str, Any]:
    """Returns what else than the samples the new set depends on, as plain values."""
    has_images = any(sample.is_image for sample in samples)
    has_videos = not all(sample.is_image for sample in samples)
    short_side = settings.recode and settings.recode.short_side
    encoders = [
        encoder_of(settings) if has_videos else None,
        encoder_of(ImagePackSettings(short_side=short_side)) if has_images else None,
    ]
    encoder = " and ".join(name for name in encoders if name) or None
    kind = {} if has_videos else {"kind": "images"}
    return {"verb": "convert", **asdict(settings), "encoder": encoder, **kind}


def _refuse_other_times(recode: RecodeSettings) -> None:
    """Raises if trajectories would get other frames than they have states and actions for."""
    if recode.frames_per_second is not None:
        raise ValueError(
            "--fps would change the frames of trajectories and not their states and actions; "
            "leave it out, or import the data anew at that rate"
        )
    if recode.split_scenes is not None:
        raise ValueError("--split-scenes would tear trajectories from their states and actions")


def _with_plain_keys(samples: list[Sample], settings: PackSettings) -> list[OutgoingSample]:
    longest = KEY_CHARACTERS - (SCENE_CHARACTERS if settings.splits_scenes else 0)
    taken: set[str] = set()
    outgoing = []
    for sample in samples:
        key = key_of_path(f"{sample.key}.mp4", taken=taken, max_characters=longest)
        taken.add(key)
        outgoing.append(OutgoingSample(sample, key, sample.group))
    return outgoing


def _scene_of(one: OutgoingSample, number: int) -> OutgoingSample:
    """Returns a scene's own key; the scenes of a video stay together."""
    group = one.group or one.sample.source or one.key
    return replace(one, key=f"{one.key}-scene{number:03d}", group=group)


def _about(
    one: OutgoingSample,
    members: Mapping[str, bytes],
    metadata: VideoMetadata,
    num_bytes: int,
    **more: Any,  # noqa: ANN401
) -> tuple[Sample, bytes]:
    """Returns the new sample and its JSON; a JSON that says the same already stays as it is."""
    foreign = _json_values(members)
    sample = Sample(
        one.key,
        "",
        {},
        metadata,
        label=_label(one.sample, foreign, members),
        source=one.sample.source,
        group=one.group,
    )
    values = {**foreign, **json.loads(sample_json(sample, num_bytes=num_bytes, **more))}
    return sample, members["json"] if values == foreign else json.dumps(values).encode()


def _json_values(members: Mapping[str, bytes]) -> dict[str, Any]:
    return parse_json(members["json"], "the JSON member") if "json" in members else {}


def _start_seconds(members: Mapping[str, bytes]) -> float:
    """Returns where a sample begins in the video that it was once cut from."""
    start = _json_values(members).get("start_seconds", 0.0)
    return float(start) if isinstance(start, int | float) else 0.0


def _label(sample: Sample, foreign: Mapping[str, Any], members: Mapping[str, bytes]) -> str | None:
    """Returns the label: a text, a number in a foreign JSON, or what the member `cls` says."""
    if sample.label is not None:
        return sample.label
    value = foreign.get("label")
    if isinstance(value, int) and not isinstance(value, bool):
        return str(value)
    return members.get("cls", b"").decode(errors="replace").strip() or None
