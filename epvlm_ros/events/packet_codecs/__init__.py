"""
Decoders of event packets, one module for each wire format, with one interface.

A decoder returns all events (``decode``) or counts them into activity bins (``accumulate``).
"""

from epvlm_ros.clean_text import clean_text
from epvlm_ros.events.packet_codecs.decoder import PacketDecoder
from epvlm_ros.events.packet_codecs.evt2 import Evt21Decoder, Evt2Decoder
from epvlm_ros.events.packet_codecs.evt3 import Evt3Decoder
from epvlm_ros.events.packet_codecs.evt3_encoder import encode_evt3
from epvlm_ros.events.packet_codecs.libcaer import LibcaerDecoder
from epvlm_ros.events.packet_codecs.libcaer_cmp import LibcaerCmpDecoder
from epvlm_ros.events.packet_codecs.mono import MonoDecoder
from epvlm_ros.events.packet_codecs.trigger import TriggerDecoder

_DECODERS: dict[str, type[PacketDecoder]] = {
    decoder.encoding: decoder for decoder in (
        Evt2Decoder, Evt21Decoder, Evt3Decoder, LibcaerDecoder, LibcaerCmpDecoder, MonoDecoder,
        TriggerDecoder)
}
ENCODINGS: tuple[str, ...] = tuple(_DECODERS)

__all__ = ['ENCODINGS', 'encode_evt3', 'make_decoder', 'PacketDecoder']


def make_decoder(encoding: str, width: int, height: int) -> PacketDecoder:
    """
    Make a decoder for one stream.

    Raises ValueError if the encoding is not in ``ENCODINGS`` or the sensor size is out of range.
    """
    if encoding not in _DECODERS:
        raise ValueError(
            f'encoding {clean_text(encoding)!r} cannot be read, only {", ".join(ENCODINGS)}: set '
            'the driver of the event camera to one of these; epvlm convert makes them of other '
            'recordings')
    return _DECODERS[encoding](width, height)
