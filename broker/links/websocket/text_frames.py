"""A publication as the documents' dialects send it, its payload as one text message: made once for all clients.

Hot: compiled.
"""

from __future__ import annotations

from typing import Final

from broker.core.publication import RUN, Publication
from protocol.websocket import text_frame

FRAME: Final = "websocket"
"""The key of a publication's frame."""


def frame_of(publication: Publication) -> bytes:
    """The frame of its payload."""
    frame = publication.frame(FRAME)
    if frame is None:
        frame = text_frame(publication.payload)
        publication.keep_frame(FRAME, frame)
    return frame


def frames_of(run: list[Publication]) -> bytes:
    """The frames of a run, in its order; the same list for everybody who asks."""
    frames = run[0].frame(RUN)
    if frames is None:
        frames = b"".join([frame_of(publication) for publication in run])
        run[0].keep_frame(RUN, frames)
    return frames
