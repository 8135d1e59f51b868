"""Odd pictures are told, and what is usual in a dataset is not."""

import cv2
import numpy as np

from tests.worker.insight.doctor.made_pictures import make_pictures, make_textures
from worker.insight.doctor.examination import examine


def find(kind, pictures):
    return [f for f in examine(pictures) if f.kind == kind]


def test_an_outlier_is_told_and_few_others_are():
    random = np.random.default_rng(0)
    features = random.normal(0, 0.3, (60, 8)) + np.repeat(np.eye(8)[:2] * 5, 30, axis=0)
    features[4] = -5 * np.eye(8)[5]
    pictures = make_pictures(
        make_textures(60),
        features=features.astype(np.float32),
        labels=np.repeat([0, 1], 30),
    )

    found = find("outlier", pictures)

    assert [f.names for f in found] == [("4.jpg",)]
    assert "unlike all other pictures of “class0”" in found[0].sentence


def test_small_pictures_are_told_unless_all_are():
    sizes = np.full(12, 300)
    sizes[5] = 20
    pixels = make_textures(12)

    (finding,) = find("too_small", make_pictures(pixels, heights_px=sizes))

    assert "5.jpg has only 300 x 20 pixels" in finding.sentence
    all_small = make_pictures(pixels, heights_px=np.full(12, 20))
    assert find("too_small", all_small) == []


def test_dark_and_bright_pictures_are_told():
    pixels = make_textures(14)
    pixels[3] = pixels[3] // 16
    pixels[8] = 255 - pixels[8] // 20

    pictures = make_pictures(pixels)

    assert [f.names for f in find("too_dark", pictures)] == [("3.jpg",)]
    assert [f.names for f in find("too_bright", pictures)] == [("8.jpg",)]


def test_in_a_dataset_of_dark_pictures_darkness_is_usual():
    pixels = make_textures(14) // 16

    assert find("too_dark", make_pictures(pixels)) == []


def test_a_blurred_picture_is_told():
    pixels = make_textures(14)
    pixels[6] = cv2.GaussianBlur(pixels[6], (0, 0), 4)

    found = find("blurred", make_pictures(pixels))

    assert [f.names for f in found] == [("6.jpg",)]
    assert "6.jpg is blurred" in found[0].sentence
