"""The z-buffer filter, against a loop over all pairs of points."""

import numpy as np

from hvd.geometry.camera import Pairs
from hvd.geometry.occlusion import occluded


def test_a_point_is_hidden_by_a_nearer_one_of_its_patch_and_camera():
    rng = np.random.default_rng(0)
    count = 300
    pairs = Pairs(
        point=np.arange(count, dtype=np.int32),
        camera=rng.integers(0, 3, count).astype(np.uint8),
        uv=rng.uniform(2, 90, (count, 2)).astype(np.float32),
        depth=rng.uniform(2, 60, count).astype(np.float32),
    )
    patch = np.floor((pairs.uv.astype(np.float64) + 0.5) / 12)  # of 900
    expected = [
        any(
            pairs.camera[j] == pairs.camera[i]
            and (patch[j] == patch[i]).all()
            and pairs.depth[i] > 1.1 * pairs.depth[j]
            for j in range(count)
        )
        for i in range(count)
    ]
    assert occluded(pairs, 900).tolist() == expected
    assert 0 < sum(expected) < count


def test_no_pair_hides_none():
    empty = Pairs(np.empty(0, np.int32), np.empty(0, np.uint8), np.empty((0, 2), np.float32), np.empty(0, np.float32))
    assert occluded(empty, 900).shape == (0,)
