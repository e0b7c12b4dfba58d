"""Shards to batches: read by offset, decode, cut clips, transform, collate.

In training a sample that cannot be used is replaced by another one that the plan's slot decides; in
evaluation its place stays, marked as not valid. Either way it travels with the batch to the main
process, where it is counted and named.
"""

from __future__ import annotations

import logging
import signal
import time
from abc import ABC, abstractmethod
from collections.abc import Iterator, Sequence
from functools import partial
from typing import Any, Generic, NamedTuple, TypeVar

import torch
from torch.utils.data import DataLoader, Dataset, Sampler

from data_pipelines.batch import ClipBatch, SkippedSample, TrajectoryBatch
from data_pipelines.clip_sampling import ClipTooShortError
from data_pipelines.decoders.base import DecoderName, VideoDecoder, decoder_class
from data_pipelines.decoders.isolated import DecodingProcess
from data_pipelines.frames import DecodeError
from data_pipelines.plan import Slot, mixed_seed
from data_pipelines.reading_processes import let_them_end, refuse_dead
from data_pipelines.samples import Sample
from data_pipelines.shard_index import ShardIndex
from data_pipelines.shard_reader import ShardReader
from data_pipelines.signs_of_life import SILENCE_SECONDS, show_life, show_life_in
from data_pipelines.skips import NoUsableSampleError, SkipCounter, nothing_usable
from data_pipelines.tar_headers import ShardError

logger = logging.getLogger(__name__)

MAX_REPLACEMENTS = 64
ALL_CLIPS = slice(None)  # of a sample
LOOK_SECONDS = 5.0  # after so long without a batch it is seen whether all reading processes live
DECODING_TIMEOUT_SECONDS = 30.0  # of an isolated decoder, for one sample


class NothingUsable(NamedTuple):
    """What a worker sends instead of a batch when every sample failed."""

    message: str


class Collated(NamedTuple):
    """What a worker sends.

    Attributes:
        batch: clips or windows.
        num_used: samples that it was made of, padding not counted.
    """

    batch: ClipBatch | TrajectoryBatch
    num_used: int


SampleT = TypeVar("SampleT")


class ShardDataset(Dataset, ABC, Generic[SampleT]):
    """Samples by slot.

    Args:
        index: the shards.
        decoder: a name from `decoder_names`.
        isolate_decoding: decode in a child process, whose crash or hang costs one sample; None:
            where no checksum proves that the bytes are those that packing has decoded in a child.
        reader: of the shards' members; None: one without a cache.
        replace_unusable: another sample takes the place of one that cannot be used (training);
            False marks its place as not valid, so that no sample comes twice (evaluation).

    Attributes:
        clips_per_sample: rows of a batch that one sample gives.
    """

    clips_per_sample: int = 1

    def __init__(
        self,
        index: ShardIndex,
        *,
        decoder: DecoderName,
        isolate_decoding: bool | None = None,
        reader: ShardReader | None = None,
        replace_unusable: bool = True,
    ) -> None:
        self.samples = index.samples  # in columns, so that forked workers copy none
        self.decoder = decoder
        self.isolate_decoding = isolate_decoding
        self.replace_unusable = replace_unusable
        self.reader = reader or ShardReader()
        self._process: DecodingProcess | None = None

    @abstractmethod
    def read(
        self,
        sample: Sample,
        generator: torch.Generator,
        skipped: tuple[SkippedSample, ...],
        chosen: slice = ALL_CLIPS,
    ) -> SampleT:
        """Reads the chosen clips of one sample; everything random comes from the generator."""

    @abstractmethod
    def blank(
        self, key: str, skipped: tuple[SkippedSample, ...], chosen: slice = ALL_CLIPS
    ) -> SampleT:
        """Returns zeros of the clips' shape, not valid: padding, or what could not be read."""

    def __len__(self) -> int:
        return len(self.samples)

    def __getitem__(self, slot: Slot) -> SampleT | NothingUsable:
        if slot.is_padding:
            return self.blank("", (), slot.chosen)
        skipped: list[SkippedSample] = []
        for sample_index in self._candidates(slot):
            sample = self.samples[sample_index]
            generator = torch.Generator().manual_seed(slot.seed)
            show_life()
            try:
                return self.read(sample, generator, tuple(skipped), slot.chosen)
            except (DecodeError, ClipTooShortError, ShardError) as error:
                skipped.append(SkippedSample(sample.key, _reason(error)))
        if not self.replace_unusable:
            return self.blank(skipped[0].key, tuple(skipped), slot.chosen)
        return NothingUsable(nothing_usable(len(skipped), len(self.samples), skipped[0]))

    def _candidates(self, slot: Slot) -> Iterator[int]:
        """Yields the slot's own sample, then reserves in an order that the slot decides."""
        yield slot.sample_index
        if not self.replace_unusable:
            return
        generator = torch.Generator().manual_seed(mixed_seed(slot.seed, 1))
        order = torch.randperm(len(self.samples), generator=generator)
        reserves = order[order != slot.sample_index][:MAX_REPLACEMENTS]
        yield from reserves.tolist()

    def _open(self, sample: Sample) -> VideoDecoder:
        data = self.reader.read(sample, sample.video_extension)
        decoder = decoder_class(self.decoder)
        isolate = self.isolate_decoding
        if isolate is None:
            isolate = sample.members[sample.video_extension].crc32 is None
        if not isolate:
            return decoder(data, sample.key)
        if self._process is None:
            self._process = DecodingProcess(decoder, timeout_seconds=DECODING_TIMEOUT_SECONDS)
        return self._process.open(data, sample.key)


class CountingLoader(DataLoader):
    """A DataLoader whose main process counts skipped samples and stops when nothing is usable.

    A batch may take its time as long as the workers show signs of life (see `signs_of_life`).

    Its state holds only what the data is, to notice a resume with other data; where the run stands
    is known from the step (see `ResumableBatchSampler`).

    Args:
        dataset: clips or trajectories.
        batch_sampler: the plan's part for this rank.
        skips: where skipped samples are counted.
        data_fingerprint: of index and plan.
        allow_data_change: warn of a resume with other data, instead of refusing it.
        num_workers: 0 reads in the main process.
        prefetch_factor: batches that each worker prepares ahead.
        pin_memory: copy batches into page-locked memory, for a faster way to a GPU.
    """

    def __init__(
        self,
        dataset: Dataset,
        batch_sampler: Sampler[list[Slot]],
        *,
        skips: SkipCounter,
        data_fingerprint: str = "",
        allow_data_change: bool = False,
        num_workers: int = 0,
        prefetch_factor: int = 2,
        pin_memory: bool = False,
    ) -> None:
        self._signs_of_life = torch.zeros(1, dtype=torch.int64).share_memory_()
        super().__init__(
            dataset,
            batch_sampler=batch_sampler,
            collate_fn=_collate_and_count,
            worker_init_fn=partial(_begin_to_read, self._signs_of_life) if num_workers else None,
            num_workers=num_workers,
            prefetch_factor=prefetch_factor if num_workers else None,
            persistent_workers=num_workers > 0,
            timeout=min(LOOK_SECONDS, SILENCE_SECONDS) if num_workers else 0,
            pin_memory=pin_memory,
        )
        self.skips = skips
        self.data_fingerprint = data_fingerprint
        self.allow_data_change = allow_data_change

    def __iter__(self) -> Iterator[Any]:
        has_valid, first_skipped = False, None
        for collated in self._collated():
            if isinstance(collated, NothingUsable):
                raise NoUsableSampleError(collated.message)
            batch, num_used = collated
            self.skips.count(num_used, batch.skipped)
            has_valid = has_valid or batch.is_valid is None or bool(batch.is_valid.any())
            first_skipped = first_skipped or next(iter(batch.skipped), None)
            yield batch
        if first_skipped is not None and not has_valid:
            number = self.skips.num_skipped
            raise NoUsableSampleError(nothing_usable(number, number, first_skipped))

    def _collated(self) -> Iterator[Collated | NothingUsable]:
        """Yields what the workers send, however long it takes them, unless they hang.

        Raises:
            TimeoutError: if they do.
            ChildProcessError: if one of them has died.
        """
        batches = super().__iter__()
        let_them_end(batches)
        lived, lived_at = -1, 0.0
        while True:
            try:
                collated = next(batches)
            except StopIteration:
                return
            except (RuntimeError, OSError, EOFError) as error:
                refuse_dead(batches, error)
                if not str(error).startswith("DataLoader timed out"):
                    raise
                if int(self._signs_of_life) != lived:
                    lived, lived_at = int(self._signs_of_life), time.monotonic()
                elif time.monotonic() - lived_at >= SILENCE_SECONDS:
                    raise TimeoutError(
                        f"no reading process showed a sign of life for {SILENCE_SECONDS:g} s: a "
                        "decoder or the disk hangs; isolate_decoding: true bounds decoders"
                    ) from None
            else:
                lived = -1
                yield collated

    def state_dict(self) -> dict[str, Any]:
        """Returns what the data is."""
        return {"data_fingerprint": self.data_fingerprint}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Compares what the data was when the checkpoint was made.

        Raises:
            ValueError: if it was another, or came in another order, unless that is allowed.
        """
        before = state.get("data_fingerprint")
        if before == self.data_fingerprint:
            return
        change = (
            f"the data or its order changed since the checkpoint ({before} before, "
            f"{self.data_fingerprint} now: index, seed, global batch, settings of what is cut out)"
        )
        if not self.allow_data_change:
            raise ValueError(
                f"{change}: resume with the same data and settings, start a new run from its "
                "weights with --from, or allow it with --data.allow_data_change true"
            )
        logger.warning("%s: samples will not follow as in an uninterrupted run", change)


def _begin_to_read(signs_of_life: torch.Tensor, worker_id: int) -> None:
    """Makes a reading process show life, and leave a SIGTERM to the process that it reads for.

    Schedulers send it to all processes of a job; the run then saves, and needs its batch to do so.
    """
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    show_life_in(signs_of_life, worker_id)


def collate(samples: Sequence[Any]) -> ClipBatch | TrajectoryBatch | NothingUsable:
    """Joins samples to a batch; the clips of one video stay together."""
    for sample in samples:
        if isinstance(sample, NothingUsable):
            return sample
    return type(samples[0]).join(samples)


def _collate_and_count(samples: Sequence[Any]) -> Collated | NothingUsable:
    batch = collate(samples)
    if isinstance(batch, NothingUsable):
        return batch
    return Collated(batch, sum(sample.is_valid for sample in samples))


def _reason(error: Exception) -> str:
    """Returns why; of a video without its key, so that equal reasons count together."""
    return error.reason if isinstance(error, DecodeError) else str(error)
