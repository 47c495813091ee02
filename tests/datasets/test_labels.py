"""Class maps against the devkit's mapper and the published SemanticKITTI configuration."""

import numpy as np
import pytest
from nuscenes.eval.lidarseg.utils import LidarsegClassMapper  # noqa: TID251  the oracle

from hvd.datasets.labels import IGNORED, LABEL_MAPS, NUSCENES, NUSCENES_CATEGORIES, SEMANTICKITTI
from hvd.errors import InputError

# semantic-kitti-api, config/semantic-kitti.yaml: learning_map by class, and learning_map_inv; class 0 is ignored
PUBLISHED_CLASSES = [
    *([0, 1, 52, 99], [10, 252], [11], [15], [18, 258], [13, 16, 20, 256, 257, 259], [30, 254], [31, 253], [32, 255]),
    *([40, 60], [44], [48], [49], [50], [51], [70], [71], [72], [80], [81]),
]
PUBLISHED_INVERSE = [10, 11, 15, 18, 20, 30, 31, 32, 40, 44, 48, 49, 50, 51, 70, 71, 72, 80, 81]

# nuScenes-lidarseg: challenge class of raw ids 0 .. 31, as SLidR tabulates it
TABULATED = [0, 0, 7, 7, 7, 0, 7, 0, 0, 1, 0, 0, 8, 0, 2, 3, 3, 4, 5, 0, 0, 6, 9, 10, 11, 12, 13, 14, 15, 0, 16, 0]


class Categories:
    """All that the devkit's mapper asks of a NuScenes object."""

    def __init__(self) -> None:
        self.lidarseg_name2idx_mapping = {name: index for index, (name, _) in enumerate(NUSCENES_CATEGORIES)}


def test_nuscenes_equals_the_devkit() -> None:
    mapper = LidarsegClassMapper(Categories())
    raw = np.arange(32, dtype=np.uint8)
    coarse = mapper.convert_label(raw)
    assert coarse.tolist() == TABULATED
    expected = np.where(coarse == 0, IGNORED, coarse.astype(int) - 1)
    np.testing.assert_array_equal(NUSCENES.map(raw), expected)
    names = mapper.coarse_name_2_coarse_idx_mapping
    assert dict(zip(NUSCENES.names, NUSCENES.inverse.tolist(), strict=True)) | {"ignore": 0} == names


def test_semantickitti_equals_the_published_map() -> None:
    for label, raws in enumerate(PUBLISHED_CLASSES):
        mapped = SEMANTICKITTI.map(np.array(raws, dtype=np.uint16))
        assert (mapped == (IGNORED if label == 0 else label - 1)).all(), label
    assert sum(map(len, PUBLISHED_CLASSES)) == np.count_nonzero(SEMANTICKITTI.lut != 254) == 34
    assert SEMANTICKITTI.inverse.tolist() == PUBLISHED_INVERSE


@pytest.mark.parametrize("dataset", LABEL_MAPS)
def test_maps_are_whole(dataset: str) -> None:
    label_map = LABEL_MAPS[dataset]
    assert len(label_map.names) == len(set(label_map.names)) == len(label_map.inverse)
    assert set(label_map.lut.tolist()) - {IGNORED, 254} == set(range(len(label_map.names)))
    assert len(label_map.names) == {"nuscenes": 16, "semkitti": 19}[dataset]


def test_submission_ids_of_semantickitti_map_back() -> None:
    np.testing.assert_array_equal(SEMANTICKITTI.map(SEMANTICKITTI.inverse), np.arange(19))


@pytest.mark.parametrize(("dataset", "raw"), [("nuscenes", 32), ("nuscenes", 255), ("semkitti", 2), ("semkitti", 260)])
def test_unknown_id(dataset: str, raw: int) -> None:
    with pytest.raises(InputError, match=str(raw)):
        LABEL_MAPS[dataset].map(np.array([0, raw, 0], dtype=np.uint16))


def test_no_points() -> None:
    assert NUSCENES.map(np.empty(0, dtype=np.uint16)).shape == (0,)
