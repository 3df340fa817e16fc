"""Reads data sets as rows: from the hub, from parquet files, from folders of images.

The first data set to be opened imports this module: the library and its dependencies take a second
to import, and a worker can search without them.
"""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from types import MappingProxyType
from typing import Any

import datasets
from datasets.exceptions import DatasetGenerationError, DatasetNotFoundError
from huggingface_hub.constants import HF_HUB_CACHE
from tqdm import tqdm  # type: ignore[import-untyped]

from pipeline.base.errors import KindredError, SourceError, SourceUnavailable
from pipeline.base.identity import ID_COLUMNS, row_image_id, sha256
from pipeline.messages import Payload
from pipeline.sources.allowed import AllowedSources, is_folder
from pipeline.sources.base import Row, own_id
from pipeline.sources.local import is_disk_error
from pipeline.sources.metadata import clean
from pipeline.sources.prepared import PreparedCopies
from pipeline.sources.selection import Selection
from pipeline.sources.tabular.cells import class_name, picture_bytes, values
from pipeline.sources.tabular.columns import listed

datasets.disable_progress_bars()
# The library's log names files that it cannot read and quotes them; the job reports the failure.
datasets.logging.set_verbosity(datasets.logging.CRITICAL)
# The library's progress bars, shown or not, create this lock on demand and delete it afterwards.
# Two threads that each open a source would delete it twice (AttributeError). A lock that exists
# already stays.
tqdm.get_lock()


class DatasetReader:
    skipped: Mapping[str, int] = MappingProxyType({})  # it is not made of files

    def __init__(
        self, selection: Selection, copies: PreparedCopies, allowed: AllowedSources
    ) -> None:
        cache = copies.folder
        if is_folder(selection.dataset):
            copies.lock_for(self)
        self._name, table, self.version = _load(selection, cache, allowed)
        self._image = _image_column(table, selection.image_column)
        self._id = _id_column(table, selection.id_column)
        self._folders = _folders(selection, cache, allowed)
        # In a folder of images every added file changes the row numbers, but not the bytes.
        self._numbered = table.info.builder_name != "imagefolder"
        features = table.features
        self._labels = {n: f for n, f in features.items() if isinstance(f, datasets.ClassLabel)}
        pictures = {n for n, f in features.items() if isinstance(f, datasets.Image)}
        table = table.remove_columns(sorted(pictures - {self._image, self._id}))
        table = table.select(range(min(len(table), selection.limit or len(table))))
        # Read the table raw: `datasets` would decode every picture, sound and film it finds, and a
        # broken one would cost the whole batch.
        self._table = table.with_format("arrow")
        self._split = selection.split or "train"

    def __len__(self) -> int:
        return len(self._table)

    def read(self, start: int, stop: int) -> Iterator[Row]:
        table = self._table[start:stop]
        columns = {name: values(table.column(name)) for name in table.column_names}
        for offset in range(stop - start):
            cells = {name: column[offset] for name, column in columns.items()}
            data = picture_bytes(cells.pop(self._image), self._folders)
            image_id, fault = own_id([cells.get(self._id)] if self._id else [])
            if image_id is None and self._numbered:
                image_id = row_image_id(self._name, self._split, start + offset)
            yield Row(start + offset, image_id, data, self._clean(cells), fault=fault)

    def _clean(self, cells: Payload) -> Payload:
        for name, label in self._labels.items():
            cells[name] = class_name(cells.get(name), label.names)
        return clean(cells)


def _load(selection: Selection, cache: Path, allowed: AllowedSources) -> tuple[str, Any, str]:
    """Returns the data set's name in image ids, its table, and its version."""
    allowed.check(selection.dataset)
    local = is_folder(selection.dataset)
    name = str(allowed.real(selection.dataset)) if local else selection.dataset
    try:
        with _disk_faults_named():
            builder = _builder(name, cache) if local else _hub_builder(selection)
            _check_files(builder, name, allowed)
            _prepare(builder, name)
            table = builder.as_dataset(split=selection.split or "train")
            return name, table, _version(builder, name, len(table))
    except DatasetGenerationError as error:
        raise SourceError(f"{name}: its files cannot be read as a data set.") from error
    except (DatasetNotFoundError, FileNotFoundError) as error:
        raise SourceError(
            f"There is no data set {name}: the workers see no such folder, and the hub has none."
        ) from error
    except ConnectionError as error:
        raise SourceError(
            f"The workers see no folder {name}, and the hub cannot be reached."
        ) from error
    except ValueError as error:
        raise SourceError(f"{name}: {_first_line(error)}") from error
    except KindredError:
        raise
    except Exception as error:  # a parser failed, and would fail again
        raise SourceError(f"{name}: it cannot be read ({type(error).__name__}).") from error


@contextmanager
def _disk_faults_named() -> Iterator[None]:
    """Turns errors of the disk into SourceUnavailable, even if the library has wrapped them."""
    try:
        yield
    except Exception as error:
        cause: BaseException | None = error
        while cause is not None:
            if isinstance(cause, OSError) and is_disk_error(cause):
                raise SourceUnavailable(
                    "Make room, or let the worker read and write there."
                ) from error
            # The library can also fail in its cleanup afterwards (a writer's AttributeError).
            cause = cause.__cause__ or cause.__context__
        raise


def _folders(selection: Selection, cache: Path, allowed: AllowedSources) -> tuple[Path, ...]:
    """The folders that may contain the files named by cells, links resolved.

    Relative names start at the first folder. A cell can name any path. A folder's data set may read
    what the operator allows; a data set from the hub may read what the library has downloaded.
    """
    if not is_folder(selection.dataset):
        return tuple(Path(f).resolve() for f in (datasets.config.HF_DATASETS_CACHE, HF_HUB_CACHE))
    path = allowed.real(selection.dataset)
    own = path if path.is_dir() else path.parent
    return (own, *allowed.folders, cache.resolve())


def _builder(name: str, cache: Path) -> Any:
    path = Path(name)
    if path.is_file():
        return datasets.load_dataset_builder(_format(path), data_files=name, cache_dir=str(cache))
    if not path.exists():
        raise FileNotFoundError
    return datasets.load_dataset_builder(name, cache_dir=str(cache))


def _hub_builder(selection: Selection) -> Any:
    return datasets.load_dataset_builder(selection.dataset, revision=selection.revision)


def _version(builder: Any, name: str, rows: int) -> str:
    """Hashes the names of the files, in order: an added file shifts the rows behind it.

    It leaves out the files' times: they may differ between two hosts that each have a copy.
    """
    named = (builder.config.data_files or {}).items()
    files = [f"{split}:{str(file).removeprefix(name)}" for split, found in named for file in found]
    return sha256("\n".join([*files, str(rows)]).encode())[:16]


def _check_files(builder: Any, name: str, allowed: AllowedSources) -> None:
    """Checks all files before reading any of them. Raises SourceNotAllowed."""
    for files in (builder.config.data_files or {}).values():
        for file in files:
            allowed.check_file(name, str(file))


def _prepare(builder: Any, name: str) -> None:
    try:
        builder.download_and_prepare()
    except ValueError as error:  # its text can quote names and contents of files
        raise SourceError(
            f"{name}: its files do not make up one data set; metadata need a column file_name."
        ) from error


def _format(path: Path) -> str:
    if path.suffix != ".parquet":
        raise SourceError(f"{path}: a single file must be .parquet; for images, name their folder.")
    return "parquet"


def _first_line(error: Exception) -> str:
    return str(error).strip().split("\n", 1)[0][:300]


def _image_column(table: Any, wanted: str | None) -> str:
    images = [n for n, f in table.features.items() if isinstance(f, datasets.Image)]
    if wanted is None and images:
        return str(images[0])
    if wanted is not None and wanted in images:
        return wanted
    which = "no column of images" if wanted is None else f"no column of images named {wanted}"
    raise SourceError(f"The data set has {which}; its columns are {listed(table.column_names)}.")


def _id_column(table: Any, wanted: str | None) -> str | None:
    if wanted is not None and wanted not in table.column_names:
        columns = listed(table.column_names)
        raise SourceError(f"The data set has no column {wanted}; its columns are {columns}.")
    return wanted or next((name for name in ID_COLUMNS if name in table.column_names), None)
