"""PNG and JPEG files as arrays."""

import io

import numpy as np
from numpy.typing import NDArray
from PIL import Image, UnidentifiedImageError

from robench.core.errors import InputError

# Only modes that convert to 8-bit RGB without loss: 16-bit greys would be clipped in silence.
_MODES = ("1", "L", "P", "RGB")
# Named, so that a file of another kind never reaches one of Pillow's rarer decoders.
_FORMATS = ("PNG", "JPEG")


def decode_image(content: bytes, name: str) -> NDArray[np.uint8]:
    """The pixels, (3, H, W) uint8; greyscale and palettes become RGB.

    name: for errors. Pillow's limit on the number of pixels stays in force.
    Raises: InputError for what is no readable PNG or JPEG of at most 8 bits without transparency.
    """
    try:
        with Image.open(io.BytesIO(content), formats=_FORMATS) as image:
            if image.mode not in _MODES or "transparency" in image.info:
                raise InputError(
                    f"{name} has pixels of mode {image.mode}: expected 8-bit RGB or grey, opaque"
                )
            pixels = np.asarray(image.convert("RGB"))
    except UnidentifiedImageError as error:  # its message shows the BytesIO above
        raise InputError(
            f"{name} is not a readable PNG or JPEG: it is in another format"
        ) from error
    # SyntaxError is how Pillow reports a broken PNG chunk.
    except (OSError, SyntaxError, ValueError, Image.DecompressionBombError) as error:
        raise InputError(f"{name} is not a readable PNG or JPEG: {error}") from error
    return np.ascontiguousarray(pixels.transpose(2, 0, 1))
