"""Files whose writers raise errors that say what the disk said: numpy's `tofile` and Pillow drop the error's number."""

import io
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image


def write_array(path: Path, values: NDArray[Any]) -> None:
    """Write the bare values in C order; raises OSError."""
    path.write_bytes(values.tobytes())


def write_image(path: Path, pixels: NDArray[np.uint8], **options: Any) -> None:
    """Write a JPEG or PNG file, as the path's suffix says; raises OSError."""
    encoded = io.BytesIO()
    Image.fromarray(pixels).save(encoded, "JPEG" if path.suffix == ".jpg" else "PNG", **options)
    path.write_bytes(encoded.getvalue())
