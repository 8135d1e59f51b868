"""The demo's real data: photographs of solar cells from the package `elpv-dataset`.

Its labels file is separated by blanks, has no header and gives each picture the
probability of a defect. We write our own CSV of `filename,label`; defective means a
probability above 0.5. The pictures are CC BY-NC-SA 4.0: installed, never redistributed.
"""

import csv
import hashlib
import importlib.util
import io
import zipfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from shared.errors import UserError

DEFECT_THRESHOLD = 0.5
LABELS = ("intact", "defective")


@dataclass(frozen=True)
class Cell:
    """One photograph.

    Attributes:
        path: Where it lies in the package.
        label: `intact` or `defective`.
        probability: Of a defect, as the package says.
    """

    path: Path
    label: str
    probability: float


def list_cells() -> list[Cell]:
    """Lists every photograph of the package, in the order of its labels file.

    Raises:
        UserError: When the package is not installed.
    """
    # Found, not imported: its module loads every picture's decoder.
    spec = importlib.util.find_spec("elpv_dataset")
    if spec is None or spec.origin is None:
        raise UserError(
            "The demo's pictures are not installed: start it as `./trainyard demo`."
        )
    folder = Path(spec.origin).parent / "data"
    cells = []
    for line in (folder / "labels.csv").read_text().splitlines():
        if not line.strip():
            continue
        name, probability, _module_type = line.split()
        defective = float(probability) > DEFECT_THRESHOLD
        cells.append(Cell(folder / name, LABELS[defective], float(probability)))
    return cells


def pick(cells: list[Cell], count: int) -> tuple[list[Cell], list[Cell]]:
    """Splits `cells` into `count` for the dataset and the rest.

    The pick is the same on every machine (by the hash of the file's name) and keeps the
    share of each probability, so the sample is as hard as the whole.

    Args:
        cells: What to pick from.
        count: How many; all when there are fewer.
    """
    shuffled = sorted(
        cells, key=lambda cell: hashlib.sha256(cell.path.name.encode()).digest()
    )
    by_stratum: dict[float, list[Cell]] = {}
    for cell in shuffled:
        by_stratum.setdefault(cell.probability, []).append(cell)
    # Every picture gets its place within its stratum, from 0 to 1; the first `count`
    # places over all strata are a proportional pick of exactly that many.
    places = [
        ((index + 0.5) / len(stratum), probability, cell)
        for probability, stratum in sorted(by_stratum.items())
        for index, cell in enumerate(stratum)
    ]
    ordered = [cell for _, _, cell in sorted(places, key=lambda place: place[:2])]
    return ordered[:count], ordered[count:]


def write_archive(
    cells: list[Cell], path: Path, *, advance: Callable[[], None]
) -> None:
    """Writes a zip of the pictures and `labels.csv` with a header.

    Args:
        cells: What goes in.
        path: The archive to write.
        advance: Called after each picture.
    """
    table = io.StringIO()
    writer = csv.writer(table, lineterminator="\n")
    writer.writerow(["filename", "label"])
    writer.writerows([f"images/{cell.path.name}", cell.label] for cell in cells)
    with zipfile.ZipFile(path, "w", zipfile.ZIP_STORED) as archive:
        archive.writestr("labels.csv", table.getvalue())
        for cell in cells:
            archive.write(cell.path, f"images/{cell.path.name}")
            advance()
