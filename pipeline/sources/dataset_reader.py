"""Data sets as rows: from the hub, from parquet files, from folders of images."""

import errno
import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import datasets
from datasets.exceptions import DatasetGenerationError, DatasetNotFoundError
from huggingface_hub.constants import HF_HUB_CACHE
from tqdm import tqdm  # type: ignore[import-untyped]

from pipeline.base.errors import KindredError, SourceError, SourceUnavailable
from pipeline.base.identity import ID_COLUMNS, row_key, sha256
from pipeline.messages import Payload
from pipeline.sources.allowed import AllowedSources, is_folder
from pipeline.sources.base import Row, own_id
from pipeline.sources.dataset import DatasetSource
from pipeline.sources.metadata import clean
from pipeline.sources.prepared import PreparedCopies

# Bytes of one file. A hundred megapixels of 16 bits a colour take 600 MB unpacked.
MAX_FILE = 1_000_000_000

# What a disk, or the share that a folder lies on, says of itself and not of a file.
_DISK_FAULTS = frozenset(
    {
        errno.EDQUOT, errno.EHOSTDOWN, errno.EIO, errno.EMFILE, errno.ENFILE, errno.ENOMEM,
        errno.ENOSPC, errno.ENOTCONN, errno.EROFS, errno.ESTALE, errno.ETIMEDOUT,
    }
)  # fmt: skip

datasets.disable_progress_bars()
# It names the file that it cannot read and quotes what is in it; the job says that it failed.
datasets.logging.set_verbosity(datasets.logging.CRITICAL)
# Its bars of progress, shown or not, make this lock when they need one and delete it afterwards:
# two threads that open a source each would delete it twice (AttributeError). One that is there
# stays.
tqdm.get_lock()


class DatasetReader:
    def __init__(
        self, source: DatasetSource, copies: PreparedCopies, allowed: AllowedSources
    ) -> None:
        cache = copies.folder
        if is_folder(source.dataset):
            copies.hold_for(self)
        self._name, table, self.version = _load(source, cache, allowed)
        self._image = _image_column(table, source.image_column)
        self._id = _id_column(table, source.id_column)
        self._folders = _folders(source, cache, allowed)
        # In a folder of images a row's number changes with every file added; its bytes do not.
        self._numbered = table.info.builder_name != "imagefolder"
        features = table.features
        self._labels = {n: f for n, f in features.items() if isinstance(f, datasets.ClassLabel)}
        pictures = {n for n, f in features.items() if isinstance(f, datasets.Image)}
        table = table.remove_columns(sorted(pictures - {self._image, self._id}))
        table = table.select(range(min(len(table), source.limit or len(table))))
        # As it lies on the disk: `datasets` would decode every picture, sound and film it finds,
        # and one that is broken would cost the whole batch.
        self._table = table.with_format("arrow")
        self._split = source.split

    def __len__(self) -> int:
        return len(self._table)

    def read(self, start: int, stop: int) -> Iterator[Row]:
        table = self._table[start:stop]
        columns = {name: _values(table.column(name)) for name in table.column_names}
        for offset in range(stop - start):
            values = {name: column[offset] for name, column in columns.items()}
            data = _bytes(values.pop(self._image), self._folders)
            key, fault = own_id([values.get(self._id)] if self._id else [])
            if key is None and self._numbered:
                key = row_key(self._name, self._split, start + offset)
            yield Row(start + offset, key, data, self._clean(values), fault=fault)

    def _clean(self, values: Payload) -> Payload:
        for name, label in self._labels.items():
            if values.get(name) is not None:
                # -1 is the custom for "not labelled"; other numbers without a name are a mistake.
                known = 0 <= values[name] < label.num_classes
                values[name] = label.int2str(values[name]) if known else None
        return clean(values)


def _load(source: DatasetSource, cache: Path, allowed: AllowedSources) -> tuple[str, Any, str]:
    """The data set's name in keys, its table, and its version."""
    allowed.check(source.dataset)
    local = is_folder(source.dataset)
    name = str(allowed.real(source.dataset)) if local else source.dataset
    try:
        with _disk_faults_named():
            builder = _builder(name, source, cache) if local else _hub_builder(source)
            _check_files(builder, name, allowed)
            _prepare(builder, name)
            table = builder.as_dataset(split=source.split)
            return name, table, _version(builder, name, len(table))
    except DatasetGenerationError as error:
        raise SourceError(f"{name}: its files cannot be read as a data set.") from error
    except (DatasetNotFoundError, FileNotFoundError) as error:
        raise SourceError(
            f"There is no data set {name}: not a folder that the workers see, nor on the hub."
        ) from error
    except ConnectionError as error:
        raise SourceError(
            f"{name} is no folder that the workers see, and the hub cannot be reached."
        ) from error
    except ValueError as error:
        raise SourceError(f"{name}: {_first_line(error)}") from error
    except KindredError:
        raise
    except Exception as error:  # whatever its parsers stumble over; it would do so again
        raise SourceError(f"{name}: it cannot be read ({type(error).__name__}).") from error


@contextmanager
def _disk_faults_named() -> Iterator[None]:
    """Raises SourceUnavailable for a full disk and the like, also where the library wrapped it."""
    try:
        yield
    except Exception as error:
        cause: BaseException | None = error
        while cause is not None:
            if isinstance(cause, OSError) and is_disk_error(cause):
                raise SourceUnavailable(
                    "Make room, or let the worker read and write there."
                ) from error
            # Or the library stumbled while it cleaned up after that (AttributeError of a writer).
            cause = cause.__cause__ or cause.__context__
        raise


def is_disk_error(error: OSError) -> bool:
    """Or of the rights to the folder in which a data set is prepared."""
    known = error.errno in _DISK_FAULTS or isinstance(error, PermissionError)
    return known or str(error).startswith("Not enough disk space")  # the library's own check


def _folders(source: DatasetSource, cache: Path, allowed: AllowedSources) -> tuple[Path, ...]:
    """Where files that its cells name may lie, after all links; relative names start at the first.

    A cell can name any path. Of a folder's data set it gets what the operator allows, of one from
    the hub what the library has fetched.
    """
    if not is_folder(source.dataset):
        return tuple(Path(f).resolve() for f in (datasets.config.HF_DATASETS_CACHE, HF_HUB_CACHE))
    path = allowed.real(source.dataset)
    own = path if path.is_dir() else path.parent
    return (own, *allowed.folders, cache.resolve())


def _builder(name: str, source: DatasetSource, cache: Path) -> Any:
    path = Path(name)
    if path.is_file():
        return datasets.load_dataset_builder(_format(path), data_files=name, cache_dir=str(cache))
    if not path.exists():
        raise FileNotFoundError
    return datasets.load_dataset_builder(name, cache_dir=str(cache))


def _hub_builder(source: DatasetSource) -> Any:
    return datasets.load_dataset_builder(source.dataset, revision=source.revision)


def _version(builder: Any, name: str, rows: int) -> str:
    """Of which files it is made, in their order: one that is added shifts the rows behind it.

    Not of their times, in which two hosts with a copy each may differ.
    """
    named = (builder.config.data_files or {}).items()
    files = [f"{split}:{str(file).removeprefix(name)}" for split, found in named for file in found]
    return sha256("\n".join([*files, str(rows)]).encode())[:16]


def _check_files(builder: Any, name: str, allowed: AllowedSources) -> None:
    """Before anything of them is read. Raises SourceNotAllowed."""
    for files in (builder.config.data_files or {}).values():
        for file in files:
            allowed.check_file(name, str(file))


def _prepare(builder: Any, name: str) -> None:
    try:
        builder.download_and_prepare()
    except ValueError as error:  # these can quote the names of files, and what stands in them
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
    raise SourceError(f"The data set has {which}; its columns are {_listed(table.column_names)}.")


def _id_column(table: Any, wanted: str | None) -> str | None:
    if wanted is not None and wanted not in table.column_names:
        columns = _listed(table.column_names)
        raise SourceError(f"The data set has no column {wanted}; its columns are {columns}.")
    return wanted or next((name for name in ID_COLUMNS if name in table.column_names), None)


def _listed(columns: Sequence[str]) -> str:
    """As far as it can be read: there are tables of ten thousand columns."""
    more = len(columns) - 20
    named = ", ".join(name[:60] for name in columns[:20])
    return f"{named} and {more:,} more" if more > 0 else named


def _values(column: Any) -> list[Any]:
    """A column's cells; None for one of which Python has no value, as text that is no UTF-8."""
    try:
        return list(column.to_pylist())
    except (ValueError, ArithmeticError, LookupError):  # the last of a zone that nobody knows
        return [_value(cell) for cell in column]


def _value(cell: Any) -> Any:
    try:
        return cell.as_py()
    except (ValueError, ArithmeticError, LookupError):
        return None


def _bytes(image: Any, folders: Sequence[Path]) -> bytes:
    """An undecoded image cell; empty where there is nothing to decode, or nothing that we may.

    Raises SourceUnavailable when the disk fails: no row is to blame for that.
    """
    if image is None:
        return b""
    if image.get("bytes") is not None:
        return bytes(image["bytes"])
    try:
        path = Path(os.path.realpath(folders[0] / image["path"]))
        # A device or a pipe could be read without end.
        readable = path.is_file() and path.stat().st_size <= MAX_FILE
        return path.read_bytes() if readable and any(map(path.is_relative_to, folders)) else b""
    except (OSError, TypeError, ValueError) as error:
        if isinstance(error, OSError) and error.errno in _DISK_FAULTS:
            raise SourceUnavailable("The disk, or the share, does not answer.") from error
        return b""
