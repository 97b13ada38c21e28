import io
import struct
import zlib

import numpy as np
import pytest
from PIL import Image

from robench.core.errors import InputError
from robench.data.pixels import decode_image


def encoded(array, kind="PNG", **options):
    file = io.BytesIO()
    Image.fromarray(array).save(file, kind, **options)
    return file.getvalue()


def png_claiming(width, height):
    """A PNG whose header claims a size it has no pixels for."""
    header = b"IHDR" + struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    chunk = struct.pack(">I", 13) + header + struct.pack(">I", zlib.crc32(header))
    return b"\x89PNG\r\n\x1a\n" + chunk + struct.pack(">I", 1000) + b"IDAT" + bytes(1000)


def test_planes_come_first():
    pixels = np.arange(2 * 4 * 3, dtype=np.uint8).reshape(2, 4, 3)
    decoded = decode_image(encoded(pixels), "a.png")
    assert decoded.shape == (3, 2, 4)
    assert decoded.flags.c_contiguous
    np.testing.assert_array_equal(decoded[1], pixels[:, :, 1])


def test_grey_and_palettes_become_rgb():
    grey = np.array([[0, 100, 255]], dtype=np.uint8)
    np.testing.assert_array_equal(decode_image(encoded(grey), "a.png"), np.stack([grey] * 3))
    palette = io.BytesIO()
    image = Image.new("P", (2, 1), 1)
    image.putpalette([0, 0, 0, 10, 20, 30])
    image.save(palette, "PNG")
    assert decode_image(palette.getvalue(), "a.png")[:, 0, 0].tolist() == [10, 20, 30]


@pytest.mark.parametrize(
    "pixels",
    [np.zeros((2, 2, 4), np.uint8), np.full((2, 2), 60_000, np.uint16)],
    ids=["RGBA", "16 bits"],
)
def test_what_rgb_cannot_hold_is_refused(pixels):
    with pytest.raises(InputError, match=r"a.png has pixels of mode .* expected 8-bit RGB"):
        decode_image(encoded(pixels), "a.png")


def test_transparent_palettes_are_refused():
    content = encoded(np.zeros((2, 2), np.uint8), transparency=0)
    with pytest.raises(InputError, match="opaque"):
        decode_image(content, "a.png")


@pytest.mark.parametrize("kind", ["BMP", "GIF", "TIFF", "PPM"])
def test_other_formats_never_reach_their_decoders(kind):
    with pytest.raises(InputError, match="not a readable PNG or JPEG"):
        decode_image(encoded(np.zeros((2, 2, 3), np.uint8), kind), "a.png")


def test_errors_name_the_file_and_no_object_of_ours():
    with pytest.raises(InputError) as caught:
        decode_image(b"no picture", "a.png")
    assert str(caught.value) == "a.png is not a readable PNG or JPEG: it is in another format"


@pytest.mark.parametrize("kind", ["PNG", "JPEG"])
@pytest.mark.parametrize("keep", [0.0, 0.1, 0.5])
def test_truncated_files_are_input_errors(kind, keep):
    noise = np.random.default_rng(0).integers(0, 256, (64, 64, 3), dtype=np.uint8)
    content = encoded(noise, kind)
    with pytest.raises(InputError, match=r"a\.png is not a readable"):
        decode_image(content[: int(len(content) * keep)], "a.png")


def test_pillows_limit_on_pixels_stays():
    before = Image.MAX_IMAGE_PIXELS
    assert before is not None
    with pytest.raises(InputError, match="decompression bomb"):
        decode_image(png_claiming(60_000, 60_000), "a.png")
    assert before == Image.MAX_IMAGE_PIXELS
