"""Where the ImageNet weights of the base models lie on one machine.

The engine looks here before it loads them, and a worker's control side, which knows no
framework, looks here to tell the pages what it could train. Names and folders alone:
nothing is opened, imported or fetched, and a digest is compared only where a file is.
"""

import importlib.util
import os
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from shared.base_models import BASE_MODELS, BaseModel, list_base_models
from shared.child_environment import find_weights_cache
from shared.settings import Settings


@dataclass(frozen=True, kw_only=True)
class WeightFolders:
    """Where weight files are looked for.

    Args:
        mirrors: The folders that the setting names, in their order.
        cache: Keras's own folder of weights; fetched files are kept there.
    """

    mirrors: list[Path]
    cache: Path

    def list_folders(self) -> list[Path]:
        """Returns the folders in which an advised user may put a file."""
        return [*self.mirrors, self.cache]

    def find(self, base_model: BaseModel) -> Path | None:
        """Returns the file with the ImageNet weights, None where it is nowhere.

        Order of search: the Python package that carries it, each mirror, a `models`
        folder in each mirror (a copy of a `KERAS_HOME`), the cache.
        """
        file = base_model.weights_file
        if base_model.weights_package is not None:
            packaged = _find_in_package(base_model.weights_package, file)
            if packaged is not None:
                return packaged
        below = (mirror / "models" for mirror in self.mirrors)
        for folder in [*self.mirrors, *below, self.cache]:
            if _is_there(folder / file):
                return folder / file
        return None


def name_folders(settings: Settings) -> WeightFolders:
    """Returns the folders of this machine, as its settings and Keras name them."""
    mirrors = [path.absolute() for path in settings.weights_dirs]
    return WeightFolders(mirrors=mirrors, cache=find_weights_cache())


def list_ready(folders: WeightFolders) -> list[str]:
    """Returns the names of the base models whose weights are on this machine."""
    return [model.name for model in list_base_models() if folders.find(model)]


def describe_report(report: dict[str, Any] | None) -> str:
    """Returns in a few words what a worker told of its base models.

    Args:
        report: Of `Worker.base_models`; None for a worker that told nothing.
    """
    if report is None:
        return ""
    ready = len(set(report["ready"]) & set(BASE_MODELS))
    if ready == len(BASE_MODELS):
        return f"all {ready} ready"
    rest = "downloads the others" if report["download"] else "weights of others missing"
    return f"{ready} of {len(BASE_MODELS)} ready, {rest}"


def _is_there(path: Path) -> bool:
    # What is closed to us, a folder or a file, must not hide the others.
    try:
        return path.is_file() and os.access(path, os.R_OK)
    except PermissionError:
        return False


def _find_in_package(distribution: str, file: str) -> Path | None:
    # The package is only a folder with a file: nothing of it is imported.
    found = importlib.util.find_spec(distribution.replace("-", "_"))
    for folder in (found.submodule_search_locations or []) if found else []:
        path = Path(folder) / "models" / file
        if path.is_file():
            return path
    return None
