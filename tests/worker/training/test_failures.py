"""What each exception means for the attempt, told by exceptions that were raised."""

import errno
import json

import numpy as np
import pytest

from shared.errors import InternalError, OutageError, RetryableError, UserError
from shared.training_spec import parse_training_spec
from worker.event_reader import LONGEST_LINE_BYTES
from worker.training.failures import Failure, explain, tell


def catch(action):
    """Returns what `action` raises."""
    with pytest.raises(Exception) as caught:  # noqa: PT011 - each test says which
        action()
    return caught.value


def test_a_bad_setting_is_refused_for_good_with_its_field_and_sentence():
    error = catch(lambda: parse_training_spec({"batch_size": 0}))

    failure = explain(error)

    assert failure == Failure("batch_size", str(error), 64)
    assert failure.permanent


def test_bad_data_without_a_field_is_refused_for_good():
    failure = explain(UserError("There is nothing to train on."))

    assert failure == Failure("rejected", "There is nothing to train on.", 64)
    assert failure.permanent


def test_a_sentence_of_any_length_is_still_an_event(capfd):
    code = tell(UserError("Too small: " + "é" * 2 * LONGEST_LINE_BYTES))

    (line,) = capfd.readouterr().out.splitlines()
    assert code == 64
    assert len(line) < LONGEST_LINE_BYTES
    assert json.loads(line)["message"].startswith("Too small: éé")


def test_what_is_out_of_reach_is_tried_again_later():
    failure = explain(OutageError("https://a/b.zip could not be fetched."))

    assert failure == Failure("outage", "https://a/b.zip could not be fetched.", 69)
    assert not failure.permanent


def test_a_device_that_is_too_small_is_told_by_the_framework_s_own_exception():
    import tensorflow as tf  # noqa: PLC0415 - its import takes seconds

    # The allocator refuses 4 EiB on every machine.
    error = catch(lambda: tf.zeros((2**30, 2**30)) + 1)

    failure = explain(error)

    assert type(error).__name__ == "ResourceExhaustedError"
    assert (failure.code, failure.exit_code) == ("device_memory", 71)
    assert "`batch_size`" in failure.message
    assert failure.permanent


def test_a_disk_that_fills_up_under_tensorflow_is_a_file_that_failed(tmp_path):
    import tensorflow as tf  # noqa: PLC0415 - its import takes seconds

    # Every write to this device fails as on a full disk.
    (tmp_path / "full").symlink_to("/dev/full")
    error = catch(lambda: tf.io.write_file(str(tmp_path / "full"), "x" * 2**20))

    failure = explain(error)

    assert type(error).__name__ == "ResourceExhaustedError"
    assert (failure.code, failure.exit_code) == ("files", 74)
    assert "No space left" in failure.message
    assert not failure.permanent


def test_a_device_that_is_too_small_is_told_by_its_status_under_other_frameworks():
    class XlaRuntimeError(RuntimeError):
        """As JAX raises it; JAX is not installed here."""

    failure = explain(XlaRuntimeError("RESOURCE_EXHAUSTED: Out of memory allocating"))

    assert (failure.code, failure.exit_code) == ("device_memory", 71)


def test_too_little_memory_of_the_machine_may_be_tried_again():
    error = catch(lambda: np.empty((2**40, 2**10), np.uint8))

    failure = explain(error)

    assert isinstance(error, MemoryError)
    assert (failure.code, failure.exit_code) == ("memory", 70)
    assert "`image_size_px`" in failure.message
    assert not failure.permanent


def test_a_file_that_fails_is_named(tmp_path):
    absent = tmp_path / "absent.npz"

    failure = explain(catch(absent.read_bytes))

    assert failure == Failure(
        "files", f"A file failed: No such file or directory ({absent}).", 74
    )
    assert not failure.permanent


def test_a_storage_error_without_a_file_is_told_by_its_text():
    failure = explain(OSError("saved_model.zip: labels.txt does not read back"))

    assert failure.message.endswith("labels.txt does not read back.")
    assert failure.exit_code == 74


def test_a_full_disk_is_a_file_that_failed():
    def write():
        with open("/dev/full", "wb") as full:  # noqa: PTH123 - a device of Linux
            full.write(b"0" * 2**20)

    error = catch(write)

    assert error.errno == errno.ENOSPC
    assert explain(error).exit_code == 74


def test_what_may_be_tried_again_is_no_failure_of_the_device():
    failure = explain(RetryableError("The exported model was not reloaded in time."))

    assert failure == Failure(
        "interrupted", "The exported model was not reloaded in time.", 70
    )
    assert not failure.permanent


@pytest.mark.parametrize(
    "error",
    [InternalError("the variables do not fit"), ZeroDivisionError()],
)
def test_our_own_mistake_is_told_by_its_type_and_may_be_tried_again(error):
    failure = explain(error)

    assert failure.code == "exception"
    assert failure.message.startswith(type(error).__name__)
    assert failure.exit_code == 70
    assert not failure.permanent


def test_a_long_text_is_cut():
    assert len(explain(ValueError("x" * 10_000)).message) == 500
