"""Decoders: bytes of a video in, the asked frames out. One file each, see `base` for the contract.

Importing this package imports no decoding library.
"""

from data_pipelines.decoders.base import DecoderName, VideoDecoder, decoder_class, decoder_names

__all__ = ["DecoderName", "VideoDecoder", "decoder_class", "decoder_names"]
