"""Pictures as they come: damaged notes of a camera, thin and huge ones, many modes; and trouble that is not theirs."""

from __future__ import annotations

import contextlib
import errno
import io
import random
import resource
import struct
import zlib
from pathlib import Path

import pytest
import torch
from PIL import Image

from fractionate.data import images as reader
from fractionate.data.images import read_image, read_images
from fractionate.pictures.heads import printable, side_of
from tests.data import pillow

TURNS = {
    1: (),
    2: (Image.Transpose.FLIP_LEFT_RIGHT,),
    3: (Image.Transpose.ROTATE_180,),
    4: (Image.Transpose.FLIP_TOP_BOTTOM,),
    5: (Image.Transpose.FLIP_LEFT_RIGHT, Image.Transpose.ROTATE_90),
    6: (Image.Transpose.ROTATE_270,),
    7: (Image.Transpose.FLIP_LEFT_RIGHT, Image.Transpose.ROTATE_270),
    8: (Image.Transpose.ROTATE_90,),
}


def noise(size: tuple[int, int] = (12, 8)) -> Image.Image:
    return Image.effect_noise(size, 90).convert("RGB")


@pytest.mark.parametrize("form", ["PNG", "JPEG", "WEBP", "TIFF"])
@pytest.mark.parametrize("orientation", TURNS)
def test_a_picture_is_turned_as_it_was_held(orientation: int, form: str, tmp_path: Path) -> None:
    exif = Image.Exif()
    exif[reader.ORIENTATION] = orientation
    file = tmp_path / "a.x"
    expected = noise()
    expected.save(file, form, exif=exif)
    if form in ("JPEG", "WEBP"):  # which keep pixels only about
        with Image.open(file) as stored:
            expected = stored.convert("RGB")
    for turn in TURNS[orientation]:
        expected = expected.transpose(turn)
    assert side_of(file) == 8
    assert torch.equal(read_image(file, 8), pillow.pixels(expected.crop(_centre(expected.size))))


def _centre(size: tuple[int, int]) -> tuple[int, int, int, int]:
    left, top = (round((x - 8) / 2) for x in size)
    return left, top, left + 8, top + 8


@pytest.mark.parametrize(
    "block",
    [
        b"",
        b"Exif\0\0",
        b"Exif\0\0MM\0*\0\0\0\x08\xff\xff",
        b"Exif\0\0II*\0\xff\xff\xff\xff",
        # orientation as text; as 0; as 9; as a fraction by 0
        *(
            b"Exif\0\0MM\0*\0\0\0\x08\0\x01\x01\x12" + struct.pack(">HI4s", kind, count, value) + b"\0\0\0\0"
            for kind, count, value in (
                (2, 4, b"up \0"),
                (3, 1, b"\0\0\0\0"),
                (3, 1, b"\0\x09\0\0"),
                (5, 1, b"\0\0\0\x1a"),
            )
        ),
    ],
)
def test_damaged_notes_of_a_camera_do_not_make_a_broken_picture(block: bytes, tmp_path: Path) -> None:
    picture, file = noise((8, 8)), tmp_path / "a.jpg"
    picture.save(file, "JPEG", exif=block) if block else picture.save(file, "JPEG")
    with Image.open(file) as stored:
        assert torch.equal(read_image(file, 8), pillow.pixels(stored.convert("RGB")))
    assert side_of(file) == 8


@pytest.mark.filterwarnings("ignore:::PIL")
def test_random_notes_of_a_camera_are_survived(tmp_path: Path) -> None:
    chance, file = random.Random(0), tmp_path / "a.png"
    for _ in range(200):
        noise((8, 8)).save(file, exif=b"Exif\0\0II*\0\x08\0\0\0" + chance.randbytes(chance.randrange(60)))
        assert read_image(file, 8).shape == (3, 8, 8)


@pytest.mark.parametrize("shape", [(1, 60_000), (60_000, 1), (2, 30_000)])
def test_a_thin_picture_needs_no_memory_for_what_is_cut_off(shape: tuple[int, int], tmp_path: Path) -> None:
    Image.new("RGB", shape, (10, 200, 30)).save(tmp_path / "a.png")
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    assert torch.equal(
        read_image(tmp_path / "a.png", 224),
        torch.tensor([10, 200, 30], dtype=torch.uint8)[:, None, None].expand(3, 224, 224),
    )
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 200_000  # kB; scaled whole: 9 GB


def test_a_thin_picture_is_cut_in_its_centre_as_others_are(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for shape in ((8, 300), (300, 8), (7, 400)):
        noise(shape).save(tmp_path / "a.png")
        thin = read_image(tmp_path / "a.png", 16).int()
        with monkeypatch.context() as patch:
            patch.setattr(reader, "LONG", 10_000)
            usual = read_image(tmp_path / "a.png", 16).int()
        assert float((thin - usual).abs().float().mean()) < 16  # less than a pixel apart


def test_a_picture_that_claims_to_be_huge_is_refused_from_its_head(tmp_path: Path) -> None:
    head = struct.pack(">IIBBBBB", 60_000, 60_000, 8, 2, 0, 0, 0)
    chunk = b"IHDR" + head
    whole = b"\x89PNG\r\n\x1a\n" + struct.pack(">I", 13) + chunk + struct.pack(">I", zlib.crc32(chunk))
    (tmp_path / "a.png").write_bytes(whole + b"\0\0\0\x08IDAT")
    with pytest.raises(ValueError, match="cannot be read"):
        read_image(tmp_path / "a.png", 8)


@pytest.mark.parametrize(("name", "frames"), [("a.gif", 3), ("a.png", 3), ("a.webp", 3), ("a.tif", 3)])
def test_of_several_frames_the_first_is_taken(name: str, frames: int, tmp_path: Path) -> None:
    tones = [Image.new("RGB", (8, 8), (60 * i, 60 * i, 60 * i)) for i in range(1, frames + 1)]
    options = {"lossless": True} if name.endswith("webp") else {}
    tones[0].save(tmp_path / name, save_all=True, append_images=tones[1:], **options)
    assert read_image(tmp_path / name, 8).unique().tolist() == [60]


def test_a_palette_with_transparency_is_read_without_a_word(tmp_path: Path, recwarn: pytest.WarningsRecorder) -> None:
    picture = noise((8, 8)).convert("P")
    picture.save(tmp_path / "a.png", transparency=bytes(range(256)))
    assert torch.equal(read_image(tmp_path / "a.png", 8), pillow.pixels(picture.convert("RGB")))
    assert not recwarn.list


def test_sixteen_bits_in_colour_are_read_and_in_grey_refused_by_name(tmp_path: Path) -> None:
    Image.new("I;16", (8, 8)).save(tmp_path / "deep.png")
    with pytest.raises(ValueError, match=r"deep\.png cannot be read: .*8 bits"):
        read_image(tmp_path / "deep.png", 8)


def test_a_program_that_calls_itself_a_picture_is_not_run(tmp_path: Path) -> None:
    script = b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 8 8\n%%EndComments\nshowpage\n"
    (tmp_path / "a.jpg").write_bytes(script)
    with pytest.raises(ValueError, match="cannot identify"):
        read_image(tmp_path / "a.jpg", 8)


@pytest.mark.faults
@pytest.mark.parametrize("number", [errno.EMFILE, errno.ENFILE])
def test_too_few_descriptors_are_no_broken_picture(
    number: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*args: object, **kwargs: object) -> None:
        raise OSError(number, "too many open files")

    monkeypatch.setattr(Image, "open", full)
    for read in (lambda: read_image(tmp_path / "a.png", 8), lambda: side_of(tmp_path / "a.png")):
        with pytest.raises(OSError, match=r"while .*a\.png was read.*ulimit -n"):
            read()
    with pytest.raises(OSError, match="ulimit"):
        read_images([tmp_path / "a.png"] * 3, 8, skip_broken=True)


@pytest.mark.faults
def test_memory_that_runs_out_is_no_broken_picture(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def none_left(*args: object) -> None:
        raise MemoryError

    noise().save(tmp_path / "a.png")
    monkeypatch.setattr(reader, "upright", none_left)
    with pytest.raises(MemoryError, match=r"a\.png"):
        read_images([tmp_path / "a.png"] * 3, 8, skip_broken=True)


@pytest.mark.faults
@pytest.mark.filterwarnings("ignore:::PIL")
def test_whatever_a_damaged_file_raises_is_a_value_error(tmp_path: Path) -> None:
    chance, wholes = random.Random(1), []
    for form in ("JPEG", "PNG", "GIF", "BMP", "WEBP", "TGA", "PPM"):
        file = io.BytesIO()
        noise().save(file, form)
        wholes.append(file.getvalue())
    for _ in range(300):
        damaged = bytearray(chance.choice(wholes))
        for _ in range(chance.choice((1, 3, 9))):
            damaged[chance.randrange(len(damaged))] = chance.randrange(256)
        (tmp_path / "a.jpg").write_bytes(damaged[: chance.randrange(1, len(damaged))])
        with contextlib.suppress(ValueError):
            assert read_image(tmp_path / "a.jpg", 8).shape == (3, 8, 8)


@pytest.mark.parametrize("text", ["plain", "ünïcödé 猫", "a\nb", "\x1b[31mred", "caf\udce9", "\u202ereversed"])
def test_names_are_printable_whatever_they_hold(text: str) -> None:
    assert printable(text).isprintable()
    assert printable(text).encode("utf-8")
    assert printable(printable(text)) == printable(text)
