"""Event files of TensorBoard, read without it."""

import struct

from tensorboardX.proto.event_pb2 import Event


def summaries(folder):
    """Every value of every summary in the files of a folder, in order."""
    for path in sorted(folder.iterdir()):
        content, at = path.read_bytes(), 0
        while at < len(content):
            (length,) = struct.unpack_from("<Q", content, at)
            event = Event.FromString(content[at + 12 : at + 12 + length])
            at += 12 + length + 4
            yield from event.summary.value
