"""Opens data sets of the hub: its library finds the files, and we read them.

Parquet and Arrow files are fetched, and read as those of a folder are. One worker fetches all of
them to plan a job, and writes down what is in which; others fetch only those with their rows. The
library prepares files of other kinds as Arrow files on the disk first, on each host. The first hub
data set to be opened imports this module: the library and its dependencies take a second to import,
and a worker can search without.
"""

import ast
import contextlib
import json
import logging
import os
import re
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field, fields
from functools import partial
from pathlib import Path
from typing import Any

import datasets
from datasets.exceptions import DatasetGenerationError, DatasetNotFoundError
from huggingface_hub import hf_hub_download
from huggingface_hub.constants import HF_HUB_CACHE
from huggingface_hub.errors import (
    GatedRepoError,
    HfHubHTTPError,
    LocalEntryNotFoundError,
    RepositoryNotFoundError,
    RevisionNotFoundError,
)
from huggingface_hub.utils import httpx  # type: ignore[attr-defined]
from huggingface_hub.utils import logging as hub_logging
from tqdm import tqdm  # type: ignore[import-untyped]

from pipeline.base.errors import KindredError, SourceElsewhere, SourceError, SourceUnavailable
from pipeline.base.identity import sha256
from pipeline.sources.allowed import AllowedSources
from pipeline.sources.cache import mark_used
from pipeline.sources.local import is_disk_error
from pipeline.sources.selection import Selection
from pipeline.sources.tabular.columns import Columns
from pipeline.sources.tabular.late import LateTables
from pipeline.sources.tabular.reader import Naming, TabularReader

logger = logging.getLogger("kindred.ingest")

datasets.disable_progress_bars()
# The library's log names files that it cannot read and quotes them; the job reports the failure.
datasets.logging.set_verbosity(datasets.logging.CRITICAL)
hub_logging.set_verbosity_error()  # type: ignore[no-untyped-call]
# The library's progress bars, shown or not, create this lock on demand and delete it afterwards.
# Two threads that each open a source would delete it twice (AttributeError). A lock that exists
# already stays.
tqdm.get_lock()

DEFAULT_SPLIT, DEFAULT_CONFIG = "train", "default"

_FILE = re.compile(r"hf://datasets/(?P<name>[^@]+)@(?P<commit>[^/]+)/(?P<path>.+)")
_COMMIT = re.compile(r"[0-9a-f]{40}")


@dataclass(frozen=True)
class Fetched:
    """A data set on this machine: its files, their names for people, and what rows need to know.

    `config` is None if its name is no part of the rows' ids; of `features` see `arrange`. Rows
    are `numbered` unless their places mean nothing, as in a folder of images. `places` are where
    its files lie on the hub: data set, commit, path. There are none if the library prepared them.
    """

    files: list[str]
    names: list[str]
    version: str
    config: str | None
    features: dict[str, Any]
    numbered: bool = True
    places: list[Sequence[str]] = field(default_factory=list)


def open_hub(selection: Selection, allowed: AllowedSources) -> TabularReader:
    """The rows of `selection.dataset`, a name on the hub. See `plan_hub`."""
    return plan_hub(selection, allowed)[0]


def plan_hub(
    selection: Selection, allowed: AllowedSources
) -> tuple[TabularReader, dict[str, Any] | None]:
    """The rows of `selection.dataset`, a name on the hub, and what `open_planned` needs of them.

    That is None if only the library can read its files. What was fetched once is read again where
    the hub cannot be reached.

    Raises SourceNotAllowed; SourceError, with what to do; SourceUnavailable if the disk is full.
    """
    allowed.check(selection.dataset)
    mark_used(selection.dataset)
    with _faults_named(selection):
        fetched = _remembered(selection) if _is_fixed(selection) else None
        fetched = fetched or _fetch(selection, allowed)
    reader = TabularReader.of(
        [Path(file) for file in fetched.files],
        _naming(selection, fetched.names, fetched.config, numbered=fetched.numbered),
        limit=selection.limit,
        image_column=selection.image_column,
        id_column=selection.id_column,
        described=fetched.features,
        version=fetched.version,
        used=partial(mark_used, selection.dataset),
    )
    return reader, _plan_of(reader, fetched) if fetched.places else None


def _naming(
    selection: Selection, names: Sequence[str], config: str | None, *, numbered: bool
) -> Naming:
    name = selection.dataset
    return Naming(
        dataset=name if config is None else f"{name}/{config}",
        split=selection.split or DEFAULT_SPLIT,
        names=tuple(names),
        folders=tuple(Path(f).resolve() for f in (datasets.config.HF_DATASETS_CACHE, HF_HUB_CACHE)),
        numbered=numbered,
    )


def _fetch(selection: Selection, allowed: AllowedSources) -> Fetched:
    try:
        builder = _builder(selection)
    except Exception as error:
        remembered = _remembered(selection) if _is_away(error) else None
        if remembered is None:
            raise
        logger.warning("hub unavailable, data set read as it was fetched last")
        return remembered
    _check_files(builder, selection.dataset, allowed)
    urls = _urls(builder, selection)
    plain = urls and builder.name in ("parquet", "arrow") and all(map(_FILE.fullmatch, urls))
    fetched = _download(builder, selection, urls) if plain else _prepare(builder, selection)
    _remember(selection, fetched)
    return fetched


def _builder(selection: Selection) -> Any:
    try:
        return datasets.load_dataset_builder(
            selection.dataset, selection.config, revision=selection.revision
        )
    except ValueError as error:
        raise _config_error(error) or error from error


def _config_error(error: ValueError) -> SourceError | None:
    """The library lists the configurations if one is missing, in two sentences of its own."""
    said = re.search(r"(?s)config.*(?:configs|Available): (\[.*?\])", str(error), re.IGNORECASE)
    if said is None:
        return None
    listed = ", ".join(str(name)[:60] for name in ast.literal_eval(said[1])[:20])
    if "missing" in str(error):
        return SourceError(f"Name the configuration to read with --config: {listed}.")
    return SourceError(f"There is no such configuration; those of the data set are {listed}.")


def _check_files(builder: Any, name: str, allowed: AllowedSources) -> None:
    """Checks all files before reading any of them. Raises SourceNotAllowed."""
    for files in (builder.config.data_files or {}).values():
        for file in files:
            allowed.check_file(name, str(file))


def _urls(builder: Any, selection: Selection) -> list[str]:
    """The files of the split; empty if the library does not say. Raises SourceError with a list."""
    found = {str(split): files for split, files in (builder.config.data_files or {}).items()}
    if not found:
        return []
    split = selection.split or DEFAULT_SPLIT
    if split not in found:
        raise SourceError(_no_split(split, found))
    return [str(file) for file in found[split]]


def _no_split(split: str, found: Sequence[str] | dict[str, Any]) -> str:
    listed = ", ".join(sorted(found))
    return f"The data set has no split {split[:100]}; its splits are {listed}."


def _download(builder: Any, selection: Selection, urls: Sequence[str]) -> Fetched:
    """Fetches the files as they are. Half a file is never taken for a whole one."""
    places = [found.groups() for url in urls if (found := _FILE.fullmatch(url))]
    files = [_download_one(place) for place in places]
    names = [f"{name}/{path}" for name, _, path in places]
    config, features = _config_of(builder), _features(builder)
    return Fetched(files, names, "", config, features, places=list(places))


def _download_one(place: Sequence[str]) -> str:
    """Asks nobody for a file that is here: a commit never changes."""
    name, commit, path = place
    try:
        return hf_hub_download(name, path, repo_type="dataset", revision=commit)
    except (httpx.HTTPError, OSError) as error:
        if isinstance(error, HfHubHTTPError) or _is_disk(error):
            raise
        raise SourceError(
            f"The download of {path} from the hub broke off. Retry the job."
        ) from error


def _prepare(builder: Any, selection: Selection) -> Fetched:
    """Has the library make Arrow files of all that it reads."""
    split = selection.split or DEFAULT_SPLIT
    try:
        builder.download_and_prepare()
    except ValueError as error:  # its text can quote names and contents of files
        raise SourceError("Its files do not make up one data set.") from error
    if split not in builder.info.splits:
        raise SourceError(_no_split(split, builder.info.splits))
    table = builder.as_dataset(split=split)
    files = [file["filename"] for file in table.cache_files]
    return Fetched(
        files,
        [f"{selection.dataset}, {split}"] * len(files),
        _version(builder),
        _config_of(builder),
        _features(builder),
        # In a folder of images every added file changes the row numbers, but not the bytes.
        numbered=builder.name != "imagefolder",
    )


def _version(builder: Any) -> str:
    """Of the addresses of the files, which contain the commit: each worker prepares its own."""
    named = (builder.config.data_files or {}).items()
    files = [f"{split}:{file}" for split, found in named for file in found]
    return sha256("\n".join([*files, str(builder.hash)]).encode())[:16]


def _config_of(builder: Any) -> str | None:
    """The configuration, unless it is the one that is read without being named."""
    known = [*builder.builder_configs] or [builder.config.name]
    meant = builder.DEFAULT_CONFIG_NAME or DEFAULT_CONFIG
    name = str(builder.config.name)
    return None if len(known) == 1 or name == meant else name


def _features(builder: Any) -> dict[str, Any]:
    return builder.info.features.to_dict() if builder.info.features else {}


# --- what a plan knows ----------------------------------------------------------------------------


def _plan_of(reader: TabularReader, fetched: Fetched) -> dict[str, Any]:
    """Of what `open_planned` makes a reader, in JSON."""
    return {
        "version": reader.version,
        "places": fetched.places,
        "rows": reader.rows,
        "config": fetched.config,
        "columns": reader.columns.to_json(),
    }


def open_planned(
    selection: Selection, allowed: AllowedSources, plan: Mapping[str, Any]
) -> TabularReader:
    """The rows of a planned job. Each file is fetched when the first of its rows is read.

    Raises SourceNotAllowed. Reading raises SourceElsewhere if the hub cannot be reached from here,
    and as `open_hub` does.
    """
    places: list[Sequence[str]] = plan["places"]
    for name in {selection.dataset, *(name for name, _, _ in places)}:
        allowed.check(name)
    return TabularReader(
        LateTables(len(places), lambda number: _fetch_planned(selection, places[number])),
        plan["rows"],
        Columns.of_json(plan["columns"]),
        _naming(selection, [f"{n}/{path}" for n, _, path in places], plan["config"], numbered=True),
        plan["version"],
        limit=selection.limit,
        used=partial(mark_used, selection.dataset),
    )


def _fetch_planned(selection: Selection, place: Sequence[str]) -> Path:
    """Another worker has fetched this file, so that it is there: if not from here, then wait."""
    with _faults_named(selection):
        try:
            return Path(_download_one(place))
        except Exception as error:
            if any(map(_is_disk, _causes(error))) or not _is_cut_off(error):
                raise
            raise SourceElsewhere("Let this host reach the hub.") from error


def _is_cut_off(error: Exception) -> bool:
    return any(
        _is_away(each) or (isinstance(each, httpx.HTTPError) and not _status(each))
        for each in _causes(error)
    )


# --- what was fetched last ------------------------------------------------------------------------


def _record(selection: Selection) -> Path:
    wanted = (selection.dataset, selection.config, selection.split, selection.revision)
    name = sha256(json.dumps(wanted).encode())[:32]
    return Path(datasets.config.HF_DATASETS_CACHE, "kindred", f"{name}.json")


def _remember(selection: Selection, fetched: Fetched) -> None:
    """Notes which files make up the data set: the hub's own cache does not know what is missing."""
    record = _record(selection)
    half = record.with_suffix(f".{os.getpid()}.half")
    with contextlib.suppress(OSError):  # the folder may be one that others fill
        record.parent.mkdir(parents=True, exist_ok=True)
        half.write_text(json.dumps(asdict(fetched)))
        half.replace(record)


def _remembered(selection: Selection) -> Fetched | None:
    """None if it was never fetched, or if any of its files is gone."""
    try:
        noted = json.loads(_record(selection).read_text())
        known = {each.name for each in fields(Fetched)}
        fetched = Fetched(**{name: noted[name] for name in noted if name in known})
    except (OSError, ValueError, TypeError):
        return None
    return fetched if all(Path(file).is_file() for file in fetched.files) else None


def _is_fixed(selection: Selection) -> bool:
    """Whether a revision is a commit, which never changes: then nobody needs to be asked."""
    return bool(selection.revision and _COMMIT.fullmatch(selection.revision))


# --- what can go wrong ----------------------------------------------------------------------------


@contextmanager
def _faults_named(selection: Selection) -> Iterator[None]:
    try:
        yield
    except KindredError:
        raise
    except Exception as error:
        if any(map(_is_disk, _causes(error))):
            raise SourceUnavailable("Make room, or let the worker read and write there.") from error
        raise SourceError(_sentence(error, selection)) from error


def _causes(error: BaseException | None) -> Iterator[BaseException]:
    """An error and those behind it: the library wraps them, and can fail in its own cleanup."""
    seen: set[int] = set()
    while error is not None and id(error) not in seen:
        seen.add(id(error))
        yield error
        error = error.__cause__ or error.__context__


def _is_disk(error: BaseException) -> bool:
    return isinstance(error, OSError) and is_disk_error(error)


def _is_away(error: BaseException) -> bool:
    kinds = (ConnectionError, httpx.TransportError, LocalEntryNotFoundError)
    return any(isinstance(e, kinds) or _status(e) >= 500 for e in _causes(error))


def _status(error: BaseException) -> int:
    response = getattr(error, "response", None)
    return int(getattr(response, "status_code", 0))


def _sentence(error: Exception, selection: Selection) -> str:
    """What to do about it. The library's own texts can quote rows, so most are not passed on."""
    name, causes = selection.dataset, list(_causes(error))
    kinds = {type(cause) for cause in causes}
    texts = " ".join(str(cause) for cause in causes if isinstance(cause, DatasetNotFoundError))
    if GatedRepoError in kinds or "gated dataset" in texts:
        return (
            f"The hub requires a login for {name}. Accept its terms there, and set HF_TOKEN where"
            " the workers run."
        )
    if RevisionNotFoundError in kinds or "Revision" in texts:
        return f"The hub has no revision {selection.revision} of {name}."
    if RepositoryNotFoundError in kinds or DatasetNotFoundError in kinds:
        return f"The hub has no data set {name}, or shows it only to those who set HF_TOKEN."
    if any(_status(cause) in (401, 403) for cause in causes):
        return f"The hub does not accept HF_TOKEN for {name}. Set another where the workers run."
    if any(map(_is_away, causes)):
        return f"The hub cannot be reached, and {name} was not fetched from it before."
    if isinstance(error, FileNotFoundError):
        return f"The hub has no files of {name} that can be read."
    if DatasetGenerationError in kinds:
        return f"{name}: its files cannot be read as a data set."
    return f"{name}: it cannot be read ({type(error).__name__})."
