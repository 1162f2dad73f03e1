"""NMEA 0183 sentences of a GPS receiver, and the log of one that is carried around a circle."""

from __future__ import annotations

import math
from collections.abc import Iterator


def sentence(body: str) -> bytes:
    """Return an NMEA sentence with this body, its checksum (the XOR of the body) and line end."""
    checksum = 0
    for byte in body.encode("ascii"):
        checksum ^= byte
    return f"${body}*{checksum:02X}\r\n".encode("ascii")


def walk(fixes: int = 120, radius: float = 30.0) -> Iterator[bytes]:
    """Yield the log of a receiver carried once around a circle (of `radius` metres, near Munich): one fix a second.

    Sentences RMC, VTG, GGA, GSA and GSV as a u-blox sends them, from noon of 2026-01-01.
    """
    metres_per_degree = 111_195.0  # of latitude; a sphere of 6371 km
    latitude_0, longitude_0, altitude = 48.1173, 11.5167, 545.4
    knots = 2 * math.pi * radius / fixes / 0.514444
    satellites = [(4, 63, 100, 41), (5, 21, 310, 33), (9, 48, 212, 44), (12, 35, 74, 38)]
    satellites += [(17, 11, 158, 29), (19, 72, 265, 46), (24, 27, 40, 35), (25, 54, 332, 42)]
    for fix in range(fixes):
        angle = 2 * math.pi * fix / fixes
        latitude = latitude_0 + radius * math.cos(angle) / metres_per_degree
        longitude = longitude_0 + radius * math.sin(angle) / metres_per_degree / math.cos(math.radians(latitude_0))
        course = (math.degrees(angle) + 90) % 360
        time = f"12{fix // 60 % 60:02d}{fix % 60:02d}.00"
        place = f"{degrees(latitude, 2)},N,{degrees(longitude, 3)},E"
        yield sentence(f"GPRMC,{time},A,{place},{knots:.2f},{course:.2f},010126,,,A")
        yield sentence(f"GPVTG,{course:.2f},T,,M,{knots:.2f},N,{knots * 1.852:.2f},K,A")
        yield sentence(f"GPGGA,{time},{place},1,08,0.9,{altitude + 3 * math.sin(angle):.1f},M,46.9,M,,")
        yield sentence(f"GPGSA,A,3,{','.join(f'{number:02d}' for number, *_ in satellites)},,,,,1.6,0.9,1.3")
        for part in (0, 1):
            seen = ",".join("{:02d},{:02d},{:03d},{:02d}".format(*it) for it in satellites[4 * part : 4 * part + 4])
            yield sentence(f"GPGSV,2,{part + 1},{len(satellites):02d},{seen}")


def degrees(value: float, width: int) -> str:
    """Return degrees as NMEA writes them: dddmm.mmmmm."""
    degrees, minutes = divmod(round(value * 60, 5), 60)
    return f"{int(degrees):0{width}d}{minutes:08.5f}"
