"""The HC-SR501 motion sensor."""

from __future__ import annotations

from typing import Any

import pytest


@pytest.mark.parametrize(
    ("keys", "moves", "changes"),
    [
        ({}, [0], [(0, 1), (2.5, 0)]),
        ({"hold": 5}, [0, 3], [(0, 1), (8, 0)]),  # jumper on H: the second movement begins the hold time again
        ({"hold": 5, "retrigger": False}, [0, 3], [(0, 1), (5, 0)]),
        ({"block": 2}, [0, 3, 5], [(0, 1), (2.5, 0), (5, 1), (7.5, 0)]),  # 3 lies in the block time
        ({"warm_up": 2}, [0, 1, 2], [(2, 1), (4.5, 0)]),
    ],
)
def test_its_output_follows_movements(
    bench: Any, keys: dict[str, Any], moves: list[float], changes: list[tuple[float, int]]
) -> None:
    sensor, seen, time = bench.put("pir", line=17, **keys), bench.record(17), 0.0
    for move in moves:
        bench.wait(move - time)
        time = move
        sensor.motion()
    bench.wait(20)
    assert seen == changes
