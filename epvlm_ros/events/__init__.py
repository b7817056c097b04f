"""From the wire to activity on the image: packets, codecs, filters, histogram, clocks, sync."""
