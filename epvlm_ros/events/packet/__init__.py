"""Event packets as they come over the wire, and what is decoded from them."""

from epvlm_ros.events.packet.event_packet import (
    DecodedPacket, DecoderCounters, EventPacket, Events, packet_from_message, PacketTimes,
    Triggers)

__all__ = [
    'DecodedPacket', 'DecoderCounters', 'EventPacket', 'Events', 'packet_from_message',
    'PacketTimes', 'Triggers',
]
