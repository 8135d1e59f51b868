"""A pulse is new while its process goes round, and does no harm where it cannot be."""

import os
import time

from shared.pulse import Pulse
from shared.settings import Settings


def test_a_beat_makes_the_pulse_new(tmp_path):
    pulse = Pulse(Settings(data_dir=tmp_path / "data"), "reconciler")

    pulse.beat()
    os.utime(pulse.path, (1, 1))
    pulse.beat()

    assert pulse.path.name == "reconciler.pulse"
    assert time.time() - pulse.path.stat().st_mtime < 60


def test_a_folder_that_takes_no_file_stops_nobody(tmp_path):
    (tmp_path / "data").write_text("a file where the folder should be")

    Pulse(Settings(data_dir=tmp_path / "data"), "reconciler").beat()
