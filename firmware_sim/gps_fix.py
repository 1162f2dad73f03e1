"""The state of a GPS receiver as its messages: NMEA sentences, and the UBX message NAV-PVT."""

from __future__ import annotations

import datetime
import math
import struct
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Literal

from firmware_sim.nmea import degrees, sentence

FixType = Literal["none", "2d", "3d"]
_METRES_PER_DEGREE = 111_195.0
"""Of latitude: a sphere of 6371 km."""
_KNOT = 0.514444
_SEPARATION = 46.9
"""Metres of the geoid above the ellipsoid, near Munich."""
_PVT = struct.Struct("<IHBBBBBBIiBBBBiiiiIIiiiiiIIHBB4xi4x")
_GPS_EPOCH = datetime.datetime(1980, 1, 6)
_LEAP_SECONDS = 18


@dataclass(frozen=True)
class Fix:
    """A receiver's position, motion and time. Angles in degrees, lengths in metres, speed in m/s."""

    utc: datetime.datetime
    latitude: float
    longitude: float
    altitude: float
    speed: float
    course: float
    type: FixType
    satellites: int

    def moved(self, seconds: float) -> tuple[float, float]:
        """Return latitude and longitude after moving on with the same speed and course."""
        north = self.speed * seconds * math.cos(math.radians(self.course))
        east = self.speed * seconds * math.sin(math.radians(self.course))
        latitude = self.latitude + north / _METRES_PER_DEGREE
        longitude = self.longitude + east / _METRES_PER_DEGREE / max(1e-6, math.cos(math.radians(self.latitude)))
        return min(max(latitude, -90.0), 90.0), (longitude + 180) % 360 - 180

    def nmea(self) -> Iterator[bytes]:
        """Yield RMC, VTG, GGA, GSA and GSV, as u-blox receivers send them."""
        found = self.type != "none"
        time = f"{self.utc:%H%M%S}.{self.utc.microsecond // 10_000:02d}"
        north, east = "NS"[self.latitude < 0], "EW"[self.longitude < 0]
        place = f"{degrees(abs(self.latitude), 2)},{north},{degrees(abs(self.longitude), 3)},{east}" if found else ",,,"
        knots, used = self.speed / _KNOT, list(range(1, self.satellites + 1)) if found else []
        course, mode = (f"{self.course:.2f}" if self.speed else ""), "A" if found else "N"
        motion = f"{knots:.3f},{course}" if found else ","
        yield sentence(f"GPRMC,{time},{mode if found else 'V'},{place},{motion},{self.utc:%d%m%y},,,{mode}")
        speed = f"{course},T,,M,{knots:.3f},N,{knots * 1.852:.3f},K" if found else ",,,,,,,"
        yield sentence(f"GPVTG,{speed},{mode}")
        height = f"{self.altitude:.1f},M,{_SEPARATION},M" if found else ",,,"
        yield sentence(f"GPGGA,{time},{place},{int(found)},{len(used):02d},{0.9 if found else 99.99},{height},,")
        numbers = ",".join(f"{number:02d}" for number in used[:12]) + "," * (12 - max(1, len(used[:12])))
        yield sentence(f"GPGSA,A,{('none', '2d', '3d').index(self.type) + 1},{numbers},1.6,0.9,1.3")
        sky = [f"{number:02d},{20 + 5 * number % 60:02d},{37 * number % 360:03d},{30 + number}" for number in used]
        parts = max(1, math.ceil(len(sky) / 4))
        for part in range(parts):
            seen = "".join(f",{it}" for it in sky[4 * part : 4 * part + 4])
            yield sentence(f"GPGSV,{parts},{part + 1},{len(sky):02d}{seen}")

    def pvt(self) -> bytes:
        """Return the payload of UBX-NAV-PVT (UBX-13003221, section 32.17.15)."""
        gps = self.utc - _GPS_EPOCH + datetime.timedelta(seconds=_LEAP_SECONDS)
        tow_ms = gps // datetime.timedelta(milliseconds=1) % (7 * 86_400_000)
        found, utc, heading = self.type != "none", self.utc, math.radians(self.course)
        return _PVT.pack(
            tow_ms, utc.year, utc.month, utc.day, utc.hour, utc.minute, utc.second, 0x07, 50, utc.microsecond * 1000,
            {"none": 0, "2d": 2, "3d": 3}[self.type], int(found), 0, self.satellites if found else 0,
            round(self.longitude * 1e7), round(self.latitude * 1e7),
            round((self.altitude + _SEPARATION) * 1000), round(self.altitude * 1000), 1500, 2500,
            round(self.speed * math.cos(heading) * 1000), round(self.speed * math.sin(heading) * 1000), 0,
            round(self.speed * 1000), round(self.course * 1e5), 200, 100_000, 160, 0, 0, 0,
        )  # fmt: skip
