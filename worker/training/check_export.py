"""Reloads an exported SavedModel as a stranger would, and predicts the golden images.

Run as a script in an isolated interpreter (`python -I check_export.py FOLDER`): it
imports TensorFlow and NumPy and nothing of ours, on purpose, so that what works here
works on a user's machine.

FOLDER holds `saved_model/`, `golden.npz` (`pixels`) and `golden/0000` and so on;
`answers.npz` is written beside them. Exit codes: 0 done; 71 too little memory; 74 the
disk is full; any other says that the model cannot be used.
"""

import errno
import os
import sys
from pathlib import Path

if __name__ == "__main__":  # never in a trainer, which imports this and wants its GPU
    os.environ["TF_CPP_MIN_LOG_LEVEL"] = "2"
    # The limits are those of float32 on a CPU; a GPU rounds more coarsely.
    os.environ["CUDA_VISIBLE_DEVICES"] = ""

import numpy as np
import tensorflow as tf

NO_MEMORY, DISK_FULL = 71, 74


def main(folder: Path) -> None:
    """Writes what both signatures of the reloaded model say about the golden images."""
    model = tf.saved_model.load(str(folder / "saved_model"))
    pixels = np.load(folder / "golden.npz")["pixels"]
    files = sorted((folder / "golden").iterdir())
    encoded = tf.constant([file.read_bytes() for file in files])
    by_pixels = model.signatures["pixels"](pixels=tf.constant(pixels))
    by_bytes = model.signatures["serving_default"](image_bytes=encoded)
    np.savez(
        folder / "answers.npz",
        pixels_probabilities=by_pixels["probabilities"].numpy(),
        pixels_labels=np.array([t.decode() for t in by_pixels["label"].numpy()]),
        bytes_probabilities=by_bytes["probabilities"].numpy(),
        bytes_labels=np.array([t.decode() for t in by_bytes["label"].numpy()]),
        bytes_confidence=by_bytes["confidence"].numpy(),
        tensorflow=np.array(tf.__version__),
    )


if __name__ == "__main__":
    try:
        main(Path(sys.argv[1]))
    except (MemoryError, tf.errors.ResourceExhaustedError) as failure:
        sys.stderr.write(f"{failure}\n")
        sys.exit(NO_MEMORY)
    except OSError as failure:
        if failure.errno not in {errno.ENOSPC, errno.EDQUOT}:
            raise
        sys.stderr.write(f"{failure}\n")
        sys.exit(DISK_FULL)
