"""The release's geometry, kept for comparison: right where nothing is augmented, wrong as soon as something is."""

import torch

from hvd.models.distiller import Cameras, released_geometry

HEIGHT, WIDTH = 56, 96


def cameras(aug_from_image: torch.Tensor, aug_from_lidar: torch.Tensor) -> Cameras:
    eye = torch.eye(4, dtype=torch.float64)[None]
    return Cameras(torch.eye(3, dtype=torch.float64)[None], eye, eye, aug_from_image[None], aug_from_lidar[None])


def test_without_augmentation_nothing_changes():
    exact = cameras(torch.eye(3, dtype=torch.float64), torch.eye(4, dtype=torch.float64))
    broken = released_geometry(exact, HEIGHT, WIDTH)
    assert torch.equal(broken.aug_from_image, exact.aug_from_image)
    assert torch.equal(broken.aug_from_lidar, exact.aug_from_lidar)


def test_point_augmentation_is_lost():
    turn = torch.diag(torch.tensor([-1.0, -1.0, 1.0, 1.0], dtype=torch.float64))
    broken = released_geometry(cameras(torch.eye(3, dtype=torch.float64), turn), HEIGHT, WIDTH)
    assert torch.equal(broken.aug_from_lidar[0], torch.eye(4, dtype=torch.float64))


def test_x_and_y_are_swapped_and_the_flip_takes_the_height():
    image = torch.tensor([[-2.0, 0, WIDTH - 1], [0, 3, 5], [0, 0, 1]], dtype=torch.float64)
    exact = cameras(image, torch.eye(4, dtype=torch.float64))
    broken = released_geometry(exact, HEIGHT, WIDTH).aug_from_image[0]
    assert torch.equal(broken, torch.tensor([[3.0, 0, 5], [0, -2, HEIGHT - 1], [0, 0, 1]], dtype=torch.float64))
    assert torch.equal(exact.aug_from_image[0], image), "the argument stays as it was"
