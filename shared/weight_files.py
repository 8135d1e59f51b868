"""Where the ImageNet weights of the base models lie on one machine.

The engine looks here before it loads them, and a worker's control side, which knows no
framework, looks here to tell the pages what it could train. Names and folders alone:
nothing is opened, imported or fetched, and a digest is compared only where a file is.
"""

import importlib.util
from dataclasses import dataclass
from pathlib import Path

from shared.base_models import BaseModel, list_base_models


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


def list_ready(folders: WeightFolders) -> list[str]:
    """Returns the names of the base models whose weights are on this machine."""
    return [model.name for model in list_base_models() if folders.find(model)]


def _is_there(path: Path) -> bool:
    try:
        return path.is_file()
    except PermissionError:  # a folder that is closed to us must not hide the others
        return False


def _find_in_package(distribution: str, file: str) -> Path | None:
    # The package is only a folder with a file: nothing of it is imported.
    found = importlib.util.find_spec(distribution.replace("-", "_"))
    for folder in (found.submodule_search_locations or []) if found else []:
        path = Path(folder) / "models" / file
        if path.is_file():
            return path
    return None
