"""The name of a processor: whatever decides which kernels compute on it."""

import pytest

from worker.training.feature_engines import name_processor

X86 = """processor\t: 0
model name\t: AMD EPYC
cpu family\t: 25
model\t: 17
flags\t: fpu avx2
"""
ARM = """processor\t: 0
Features\t: fp asimd
CPU implementer\t: 0x41
CPU variant\t: 0x3
CPU part\t: 0xd0c
"""


@pytest.mark.parametrize(
    ("cpuinfo", "before", "after"),
    [
        (X86, "model\t: 17", "model\t: 49"),
        (X86, "avx2", "avx2 avx512f"),
        (ARM, "0xd0c", "0xd40"),
        (ARM, "asimd", "asimd bf16"),
    ],
)
def test_processors_with_other_kernels_have_other_names(
    tmp_path, cpuinfo, before, after
):
    path = tmp_path / "cpuinfo"
    names = []
    for text in (cpuinfo, cpuinfo * 2, cpuinfo.replace(before, after)):
        path.write_text(text)
        names.append(name_processor(path))

    assert names[0] == names[1] != names[2], "cores of one kind count as one"


def test_a_processor_that_nobody_describes_is_named_by_its_architecture(tmp_path):
    assert name_processor(tmp_path / "absent") != ""
    assert "?" not in name_processor(tmp_path / "absent")
