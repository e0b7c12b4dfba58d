"""A video small enough to carry: 4 frames, 64 x 64, H.264 in MP4, each of one grey.

`jepa doctor` asks every decoder for it: a library that can be imported may still not decode.
"""

from __future__ import annotations

import base64
import zlib

GREY_OF_FRAME = (40, 90, 140, 190)
GREY_TOLERANCE = 4  # H.264 keeps limited-range luma

_COMPRESSED = (
    "eNpjYGBQSCupLMgszs9lYGBiANFAbJRYlmyYW2BiyMDAwJFWlJoKpHNyUxJLgLR8akcjA/v/f1/Vf4icW8Pi/TA78cZO"
    "mYaTd0Kvn2DXXnYQqITPcRZHTg2LAf8j6f+/orcBReQc5wmoC9z/s+j3kn+Bf/VVA5idHnw23M369Duv9/SrrUAVnIzz"
    "JHw98v9LCjAwMIfk5ueXge0sy0hhQAHMLxgYGCcwMDKAEAIwoqpC5zsw4AVMQFRXUpSYDWTHlGSD7WTGNA1oLwN+e7Da"
    "6wB3gEpqSkkxkJZJzSkuQegAmcsB1cv4LTclMxHIUMhNQfe7BhCLMIQeAXN0M1JyimAyZZkpqcgqw4D8fI/EvJScVJAa"
    "xoW5mXlpIN1luWBDkZ2pkgKRk0kpSk1D8gZPaVGOAtSBicUlSTlA9sbikuIUJDULQQkFR1CAPO3A4AGkPXCqQAcS//8D"
    "SXOgqc6MKQxc/x8ySKYD6TVFLC5qLaA4YQERATYe0wQbGBnYM144t3grHfj74wdIs0hSSRE0VNkvwAwsLgGHOMx6FjAC"
    "qgV6BFkchDWSEWqZIWIcUHkBaCoB65UB6k1G08sCpVWAclVIHgKJKwOxEBArATEvxO7kfCT9BkCcVJpSAor1qNxUMA0C"
    "isgxDEwVRYkFBTnIoaWbCUlGqitL8kEGygJzaCIsnH0Sy9LMjPQMgcjACACDJpb9"
)


def video_bytes() -> bytes:
    """The MP4 file, 1000 bytes."""
    return zlib.decompress(base64.b64decode(_COMPRESSED))
