"""All settings. An entry point reads them from `KINDRED_…` variables once, and passes them on.

`docs/settings.md` lists every field; a test keeps that table correct.
"""

import difflib
import logging
import os
import re
import ssl
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Any, Literal, get_args

from pydantic import Field, ValidationError, ValidationInfo, field_validator
from pydantic_settings import BaseSettings, NoDecode, SettingsConfigDict

from pipeline.base.addresses import is_loopback
from pipeline.base.errors import ConfigurationError
from pipeline.base.peers import Peer
from pipeline.base.redis_url import parse_redis_url, with_ca

logger = logging.getLogger("kindred.settings")

Pooling = Literal["auto", "mean", "cls", "projection"]
Device = str  # auto, cpu, cuda, or a card such as cuda:1
Dtype = Literal["auto", "float32", "bfloat16"]
Auto = Literal["auto"]
IndexType = Literal["keyword", "integer", "float", "bool", "datetime", "text"]
# The kinds of DICOM images that `dicom/burned_in.py` suspects of text in their pixels.
Trusted = Literal["ultrasound", "secondary-capture", "screen-shot", "endoscopy", "marked-clean"]
Positive = Annotated[int, Field(ge=1)]

# Tells supervisors that a restart will not help (sysexits.h: EX_CONFIG).
EXIT_CONFIGURATION = 78

_PREFIX = "KINDRED_"

# Variables that only the command line reads, and the prefix of those that only the tests read.
_OTHER_VARIABLES = frozenset({f"{_PREFIX}URL", f"{_PREFIX}API_KEY"})
_TEST_PREFIX = f"{_PREFIX}TEST_"

_INDEXED: dict[str, IndexType] = {
    "image_id": "keyword",
    "lesion_id": "keyword",
    "patient_id": "keyword",
    "series_id": "keyword",
    "study_id": "keyword",
    "accession_id": "keyword",
    "modality": "keyword",
    "dx": "keyword",
    "dx_type": "keyword",
    "sex": "keyword",
    "localization": "keyword",
    "age": "float",
}

_LESION = "lesion_id"

# Original numbers that the address of a viewer can have.
VIEWER_NUMBERS = ("study", "series", "accession")

# A collection's name becomes part of Redis keys, of folders and of names in Qdrant.
_COLLECTION = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,99}")

# A device of `devices`: a list names each card, since "cuda" could be any of them.
_LISTED_DEVICE = re.compile(r"cpu|cuda:(0|[1-9][0-9]{0,3})")

# The api would take its own paths for the proxy's.
_ROOT_PATH = re.compile(r"(/[A-Za-z0-9_~-][A-Za-z0-9._~-]{0,99})+")
_OUR_PATHS = frozenset({"healthz", "metrics", "open", "openapi.json", "page", "readyz", "v1"})

# Texts that examples and people write in place of a secret.
_PLACEHOLDERS = frozenset(
    {"changeme", "change-me", "change_me", "password", "placeholder", "secret"}
)


SHORTEST_KEY = 16  # characters: shorter keys could be guessed


@dataclass(frozen=True)
class EncoderOptions:
    """Which encoder, where it runs, and how work is spread over that device."""

    model: str
    revision: str | None
    pooling: Pooling
    device: Device
    dtype: Dtype
    batch_size: int | Auto
    lanes: int | Auto
    shard_size: int | Auto
    processes: int = 1


@dataclass(frozen=True)
class StoreOptions:
    """Where a collection's vectors lie: on a Qdrant server, or in `folder` without a URL."""

    collection: str
    folder: Path
    qdrant_url: str | None
    qdrant_api_key: str | None = field(repr=False)
    qdrant_grpc_port: int | None
    qdrant_ca: Path | None
    indexed_fields: Mapping[str, IndexType]
    index_from: int


@dataclass(frozen=True)
class Timing:
    """Seconds. `heartbeat`: between two beats of a worker; `lease`: for which an item is its own;
    `request_ttl`: until a request that nobody answers fails; `result_ttl`: until it is forgotten
    afterwards.
    """

    heartbeat: float = 3
    lease: float = 60
    request_ttl: float = 600
    result_ttl: float = 3600


class Settings(BaseSettings):
    """One frozen object. Times are in seconds unless a name says otherwise."""

    model_config = SettingsConfigDict(
        env_prefix=_PREFIX,
        frozen=True,
        extra="ignore",
        env_ignore_empty=True,
        hide_input_in_errors=True,  # an input can be a secret, and errors end up in logs
    )

    data: Path = Field(Path(".kindred"), description="Folder for all data")
    redis_ca: Path | None = Field(
        None,
        description="PEM file of the certificates to trust for Redis and its Sentinels, if they "
        "are private",
    )
    redis_url: str = Field(
        "redis://127.0.0.1:6379/0",
        repr=False,  # it can contain a password
        description="Redis of queues and ledger: redis://, rediss:// (TLS) or unix://, or its "
        "Sentinels: sentinel://HOST:26379,HOST…/0?service=NAME, or sentinels:// (TLS)",
    )
    qdrant_url: str | None = Field(
        None, description="Qdrant server; without one, the worker uses the embedded engine"
    )
    qdrant_api_key: str | None = Field(None, repr=False, description="API key of the Qdrant server")
    qdrant_grpc_port: int | None = Field(
        None,
        ge=0,
        le=65535,
        description="gRPC port of the Qdrant server; 0: REST only; default 6334 if the URL names "
        "6333 or no port, else REST only. Where gRPC does not answer, REST is used",
    )
    qdrant_ca: Path | None = Field(
        None,
        description="PEM file of the certificates to trust for the Qdrant server, if they are "
        "private",
    )
    collection: str = Field(
        "kindred",
        description="Collection that a worker fills, and the api's default one: ASCII letters and "
        "digits, . _ -",
    )
    blobs_url: str | None = Field(
        None,
        description="Where uploads, previews and results are stored, as an fsspec URL; "
        "default DATA/blobs",
    )
    indexed_fields: Annotated[dict[str, IndexType], NoDecode] = Field(
        _INDEXED,
        description=f"Payload indexes, as NAME=TYPE; types are {', '.join(get_args(IndexType))}",
    )
    lesion_field: str = Field(
        _LESION,
        description="Indexed field whose value the images of one lesion share; a search can leave "
        "out those of its own",
    )
    drift_fields: Annotated[tuple[str, ...], NoDecode] = Field(
        ("site", "device", "manufacturer", "model", "modality", "body_part"),
        description="Fields that say on which device and where an image was made, separated by "
        "commas. A job's report says of which of them the images lie unlike the collection",
    )
    index_from: int = Field(
        250_000,
        ge=0,
        description="The embedded store builds an index in the background once this many images "
        "are not in one; 0: never, so that search stays exact",
    )

    model: str = Field("facebook/dino-vits16", description="Encoder: a hub name or a folder")
    revision: str | None = Field(None, description="Revision of the encoder on the hub")
    pooling: Pooling = Field(
        "auto",
        description="mean or cls: of the image's tokens; projection: into the space that CLIP and "
        "SigLIP share with text; auto: projection if the model has one, else mean",
    )
    device: Device = Field(
        "auto", description="Where the encoder runs: auto, cpu, cuda, or a card such as cuda:1"
    )
    devices: Annotated[tuple[Device, ...], NoDecode] = Field(
        ("auto",),
        description="One worker process for each, separated by commas: cpu, or a card such as "
        "cuda:1; auto: every card that CUDA sees, else the CPU; without QDRANT_URL one worker. "
        "Of `kindred worker` and `kindred up`, which give each its DEVICE",
    )
    processes: int = Field(
        1,
        ge=1,
        description="Worker processes that share the cores of this machine; `kindred worker` and "
        "`kindred up` set it",
    )
    dtype: Dtype = Field(
        "auto", description="Number format; auto: bfloat16 if the hardware computes in it"
    )
    # If a whole batch were rejected, more rows would not fit into one call of the ledger.
    batch_size: Annotated[int, Field(ge=1, le=2048)] | Auto = Field(
        "auto", description="Images in one forward pass; auto: 8 on CPU, 256 on GPU"
    )
    lanes: Positive | Auto = Field(
        "auto",
        description="Shards that a worker embeds at once; auto: one for each CPU core, 2 on a GPU",
    )
    search_threads: int = Field(4, ge=1, description="Searches that a worker answers at once")
    shard_size: Positive | Auto = Field(
        "auto", description="Rows in one shard; auto: 64 on CPU, 1,024 on GPU"
    )

    pseudonym_key: str | None = Field(
        None,
        repr=False,
        description="Secret under which identifiers of DICOM files are hashed; after a change the "
        "older ones behind it, separated by commas; default: drawn at the first start, and kept in "
        "Redis and in backups",
    )
    dicom_dates: Literal["none", "year", "month", "full"] = Field(
        "year", description="What is kept of a DICOM study's date: none, year, month or full"
    )
    keep_dicom: bool = Field(
        False, description="Whether DICOM files are kept as they came, with all that they say"
    )
    dicom_trusted: Annotated[tuple[Trusted, ...], NoDecode] = Field(
        (),
        description="DICOM images that need not wait in quarantine, separated by commas: "
        "ultrasound, secondary-capture, screen-shot, endoscopy, and marked-clean, whose header "
        "says that no text is burned in",
    )
    dicom_ocr: Literal["off", "suspect", "all"] = Field(
        "suspect",
        description="Where Tesseract looks for text in DICOM images, if it is installed: suspect: "
        "in those that wait in quarantine, to show where; all: in each, and those with text wait; "
        "off: nowhere. It takes about a second of a core for an image",
    )
    dicom_frames: str = Field(
        "auto",
        pattern=r"^(auto|first|middle|all|every [1-9][0-9]{0,5})$",
        description="Which frames of a DICOM file become images: first, middle, all, or every N, "
        "such as every 10; auto: all up to 32, else 32 evenly",
    )
    dicom_peers: Annotated[tuple[str, ...], NoDecode] = Field(
        (),
        description="Who may send by C-STORE, as TITLE@ADDRESS or TITLE@NETWORK/BITS, separated by "
        "commas; * is any title. By default nobody",
    )
    dicom_processes: Positive | Auto = Field(
        "auto", description="Processes that receive; auto: one for each CPU core"
    )
    dicom_associations: int = Field(
        64, ge=1, description="Associations at once; one address may have half of them"
    )
    dicom_idle_seconds: float = Field(
        60, gt=0, description="An association is ended after this long without a message"
    )
    dicom_object_mb: int = Field(1000, ge=1, description="Largest object by C-STORE, in MB")
    dicom_cert: Path | None = Field(
        None, description="PEM file of the receiver's certificate; with it, it speaks TLS alone"
    )
    dicom_key: Path | None = Field(None, description="PEM file of that certificate's key")
    dicom_ca: Path | None = Field(
        None, description="PEM file of the certificates that must have signed those of the peers"
    )
    incoming_backlog: int = Field(
        20_000,
        ge=1,
        description="Received objects (C-STORE, STOW-RS) that may wait to be indexed; more are "
        "refused for now",
    )
    incoming_free_mb: int = Field(
        2000,
        ge=0,
        description="Free space of the blobs' disk, in MB, below which no object is received",
    )
    incoming_seconds: float = Field(
        2, gt=0, description="Received objects become a job after this long without another one"
    )
    max_upload_mb: int = Field(32, ge=1, description="Largest request body, in MB")
    stow_mb: int = Field(
        10_000,
        ge=1,
        description="Largest STOW-RS request, in MB; of its objects, only one is in memory",
    )
    max_pixels: int = Field(100_000_000, ge=1, description="Largest image, in pixels")
    keep_names: bool = Field(
        True, description="Whether an image keeps the name of its file, as `source.name`"
    )
    decode: Literal["cpu", "card"] = Field(
        "cpu",
        description="Where images of a job are decoded: cpu, in the decoders; card: JPEGs on the "
        "worker's GPU, all else in the decoders. It needs the extra card",
    )
    decode_seconds: float = Field(
        30,
        gt=0,
        description="Decoding one image may take this long; it is tried once more, then rejected",
    )
    decoders: Positive | Auto = Field(
        "auto",
        description="Processes of a worker that decode images, beside one for searches; auto: one "
        "for each CPU core but one",
    )
    preview_pixels: int = Field(512, ge=16, description="Longest side of a preview, in pixels")

    lease_seconds: float = Field(
        60, gt=0, description="A shard without a checkpoint for this long is sent again"
    )
    heartbeat_seconds: float = Field(3, gt=0, description="Time between two heartbeats of a worker")
    reconcile_seconds: float = Field(2, gt=0, description="Time between two searches for lost work")
    search_ttl: float = Field(
        600, gt=0, description="A search that no worker answers for this long fails"
    )
    result_ttl: float = Field(3600, gt=0, description="How long results can be fetched")
    job_days: float = Field(
        90,
        ge=0,
        description="How many days jobs are kept that have ended, with the names of what they "
        "rejected and skipped; 0: for ever",
    )
    log_level: Literal["DEBUG", "INFO", "WARNING", "ERROR"] = Field("INFO", description="Log level")

    api_keys: Annotated[tuple[str, ...], NoDecode] = Field(
        (),
        repr=False,
        description="API keys of the role admin, separated by commas, in addition to those of "
        "`kindred keys`",
    )
    rate_limit: int = Field(
        600, ge=0, description="Calls that one API key may make in a minute; 0: no limit"
    )
    search_backlog: int = Field(
        200, ge=1, description="Searches that may wait for a worker; the api refuses more for now"
    )
    connections: int = Field(
        250,
        ge=1,
        description="Connections to the api that one address may have; of a trusted proxy 8 times "
        "as many",
    )
    sources: Annotated[tuple[str, ...], NoDecode] = Field(
        ("hub:*",),
        description="Allowed sources, separated by commas: folders, data sets on the hub as "
        "hub:ORG/NAME, and archives as dicomweb:HOST or dicomweb:HOST:PORT; * matches any text",
    )
    models: Annotated[tuple[str, ...], NoDecode] = Field(
        ("hub:*",),
        description="Encoders that a comparison may load beside KINDRED_MODEL, separated by "
        "commas: folders with all in them, and models on the hub as hub:ORG/NAME; * matches any "
        "text",
    )
    dicomweb_auth: dict[str, str] | None = Field(
        None,
        repr=False,
        description='Users of archives for the workers, as JSON: {"HOST:PORT": "user:password"}, '
        'or "Bearer TOKEN" in its place; the port can be left out',
    )
    dicomweb_ca: Path | None = Field(
        None, description="PEM file of certificates by which archives are known to the workers"
    )
    cache_gb: float | None = Field(
        None,
        gt=0,
        description="How many GB of the hub's data sets may stay in `HF_HOME`; those that were not "
        "used for the longest go first, and none of the last six hours. Default: all stay",
    )
    audit_log: str | None = Field(
        None,
        description="File of the audit log, in JSON lines; - is standard output; "
        "default DATA/logs/audit.jsonl",
    )
    viewer_url: str | None = Field(
        None,
        description="Address of a study in the department's viewer, with {study}, {series} or "
        "{accession} where the original number goes; results link to it for those who may see "
        "the number",
    )
    viewer_role: Literal["search", "ingest", "admin"] = Field(
        "admin",
        description="Role that sees the viewer's link, which re-identifies: search, "
        "ingest or admin",
    )
    root_path: str = Field(
        "",
        description="Path below which a proxy serves the api and its page, such as /kindred",
    )
    trusted_proxies: str = Field(
        "127.0.0.1",
        description="Addresses of proxies; the api believes what they say about the caller's "
        "address and https",
    )

    @field_validator("device")
    @classmethod
    def _refuse_other_devices(cls, device: Device) -> Device:
        if device not in ("auto", "cuda") and not _LISTED_DEVICE.fullmatch(device):
            raise ValueError("Input should be auto, cpu, cuda, or a card such as cuda:1")
        return device

    @field_validator("viewer_url")
    @classmethod
    def _refuse_other_links(cls, url: str | None) -> str | None:
        if url is None:
            return None
        try:
            url.format(**dict.fromkeys(VIEWER_NUMBERS, ""))
        except (KeyError, IndexError, ValueError):
            raise ValueError(
                "Input should have no braces but {study}, {series}, {accession}"
            ) from None
        if not url.startswith(("http://", "https://")) or "{" not in url:
            raise ValueError("Input should be http:// or https://, with {study} in it")
        return url

    @field_validator("devices")
    @classmethod
    def _refuse_other_lists(cls, devices: tuple[Device, ...]) -> tuple[Device, ...]:
        if devices != ("auto",) and not (devices and all(map(_LISTED_DEVICE.fullmatch, devices))):
            raise ValueError("Input should be auto, or a list of cpu and cards, as cuda:0,cuda:1")
        return devices

    @field_validator("dicom_peers")
    @classmethod
    def _refuse_other_peers(cls, peers: tuple[str, ...]) -> tuple[str, ...]:
        for peer in peers:
            Peer.of(peer)
        return peers

    @field_validator(
        "api_keys",
        "sources",
        "models",
        "devices",
        "dicom_trusted",
        "dicom_peers",
        "drift_fields",
        mode="before",
    )
    @classmethod
    def _split(cls, value: Any) -> Any:
        return _entries(value) if isinstance(value, str) else value

    @field_validator("indexed_fields", mode="before")
    @classmethod
    def _parse_indexes(cls, value: Any) -> Any:
        return dict(map(_index, _entries(value))) if isinstance(value, str) else value

    @field_validator("lesion_field")
    @classmethod
    def _refuse_other_fields(cls, name: str, info: ValidationInfo) -> str:
        """The default may be missing: then a search leaves out its own image alone."""
        kind = info.data.get("indexed_fields", {}).get(name)
        if name != _LESION and kind not in ("keyword", "integer"):
            raise ValueError("KINDRED_INDEXED_FIELDS must list it, as keyword or integer")
        return name

    @field_validator("collection")
    @classmethod
    def _refuse_other_names(cls, name: str) -> str:
        if not _COLLECTION.fullmatch(name):
            raise ValueError(
                "the name has up to 100 letters and digits of ASCII, dots, hyphens and "
                "underscores, and begins with a letter or a digit"
            )
        return name

    @field_validator("root_path")
    @classmethod
    def _refuse_other_paths(cls, path: str) -> str:
        path = path.rstrip("/")
        if path and (not _ROOT_PATH.fullmatch(path) or path.split("/")[1] in _OUR_PATHS):
            raise ValueError(
                "the path begins with / and has names of ASCII letters, digits, . _ ~ - between "
                f"its slashes; the first is none of {', '.join(sorted(_OUR_PATHS))}"
            )
        return path

    @field_validator("api_keys", "qdrant_api_key", "pseudonym_key")
    @classmethod
    def _refuse_placeholders(cls, value: Any) -> Any:
        for secret in (value,) if isinstance(value, str) else value or ():
            if secret.lower() in _PLACEHOLDERS:
                raise ValueError("this is a placeholder: generate a secret, as docs/deploy.md says")
        return value

    @field_validator("pseudonym_key")
    @classmethod
    def _refuse_short_secrets(cls, keys: str | None) -> str | None:
        if any(len(key.strip()) < SHORTEST_KEY for key in keys.split(",")) if keys else False:
            raise ValueError(f"each key needs {SHORTEST_KEY} characters, drawn at random")
        return keys

    @field_validator("api_keys")
    @classmethod
    def _refuse_short_keys(cls, keys: tuple[str, ...]) -> tuple[str, ...]:
        if any(len(key) < SHORTEST_KEY for key in keys):
            raise ValueError(
                f"a key needs {SHORTEST_KEY} characters, drawn at random as docs/deploy.md says"
            )
        return keys

    @field_validator("redis_ca")
    @classmethod
    def _refuse_other_files(cls, ca: Path | None) -> Path | None:
        """Absolute, since the processes that get it may run in other folders."""
        if ca is None:
            return None
        try:
            ssl.create_default_context(cafile=ca)
        except OSError:  # ssl's own errors are some
            raise ValueError("it is no PEM file of certificates that can be read") from None
        return ca.absolute()

    @field_validator("redis_url")
    @classmethod
    def _refuse_open_redis(cls, url: str, info: ValidationInfo) -> str:
        """With the CA in it, so that one URL says all. A Redis that other machines can reach must
        require a password; Sentinels on other machines name such a Redis."""
        if ca := info.data.get("redis_ca"):
            url = with_ca(url, str(ca))
        address = parse_redis_url(url)
        local = all(is_loopback(host) for host, _ in address.hosts)
        if not local and not address.password:
            raise ValueError(
                "a Redis that other machines can reach needs a password: redis://:…@host"
            )
        return url

    @property
    def encoder(self) -> EncoderOptions:
        return EncoderOptions(
            model=self.model,
            revision=self.revision,
            pooling=self.pooling,
            device=self.device,
            dtype=self.dtype,
            batch_size=self.batch_size,
            lanes=self.lanes,
            shard_size=self.shard_size,
            processes=self.processes,
        )

    @property
    def store(self) -> StoreOptions:
        return StoreOptions(
            collection=self.collection,
            folder=self.data / "store" / self.collection,
            qdrant_url=self.qdrant_url,
            qdrant_api_key=self.qdrant_api_key,
            qdrant_grpc_port=self.qdrant_grpc_port,
            qdrant_ca=self.qdrant_ca,
            indexed_fields=self.indexed_fields,
            index_from=self.index_from,
        )

    @property
    def timing(self) -> Timing:
        return Timing(
            heartbeat=self.heartbeat_seconds,
            lease=self.lease_seconds,
            request_ttl=self.search_ttl,
            result_ttl=self.result_ttl,
        )

    @property
    def keys_file(self) -> Path:
        return self.data.absolute() / "keys.json"

    @property
    def audit_file(self) -> str:
        """A path, or - for standard output."""
        return self.audit_log or str(self.data.absolute() / "logs" / "audit.jsonl")

    def blobs_of(self, collection: str) -> str:
        """Where the blobs of a collection are stored: a folder or an fsspec URL."""
        return f"{self.blobs_url or self.data.absolute() / 'blobs'}/{collection}"

    def environment(self) -> dict[str, str]:
        """A process environment that gives a child process the same settings."""
        # A setting that is unset here must not come back from this process's environment.
        ours = _variables()
        inherited = {name: value for name, value in os.environ.items() if name.upper() not in ours}
        return {**inherited, **self._written()}

    def _written(self) -> dict[str, str]:
        """Maps variables to texts. Leaves out empty values, unless a default would replace them."""
        fields = type(self).model_fields
        values = {name: getattr(self, name) for name in fields}
        return {
            _variable(name): as_text(value)
            for name, value in values.items()
            if value or value != fields[name].default
        }


def load_settings(**overrides: Any) -> Settings:
    """The settings of this process, from its environment; `overrides` come first.

    Raises ConfigurationError, with a line for each wrong variable.
    """
    try:
        return Settings(**overrides)
    except ValidationError as error:
        problems = _problems(error)
    raise ConfigurationError(problems)  # outside of `except`: the cause would quote values


def as_text(value: object) -> str:
    """A setting as the text of its variable. A lone comma is an empty list; empty means unset."""
    if isinstance(value, Mapping):
        return as_text(tuple(f"{name}={kind}" for name, kind in value.items()))
    if isinstance(value, tuple):
        return ",".join(value) or ","
    return str(value)


def warn_of_unknown_variables() -> None:
    """Writes to the log, so configure it before."""
    for line in unknown_lines(os.environ):
        logger.warning(line)


def unknown_lines(environment: Mapping[str, str]) -> list[str]:
    """A line for each unknown variable, without its value."""
    return [
        f"{name} is no setting" + (f"; did you mean {nearest}?" if nearest else "")
        for name, nearest in unknown_variables(environment)
    ]


def unknown_variables(environment: Mapping[str, str]) -> list[tuple[str, str | None]]:
    """Variables that have our prefix but are no setting, each with the nearest setting."""
    known = _variables() | _OTHER_VARIABLES
    upper = {name: name.upper() for name in environment}
    return [
        (name, _nearest(capital, known))
        for name, capital in sorted(upper.items())
        if capital.startswith(_PREFIX)
        and not capital.startswith(_TEST_PREFIX)
        and capital not in known
    ]


def _nearest(variable: str, known: frozenset[str]) -> str | None:
    """Compares names without the prefix, which would make any two similar."""
    if f"{variable}_URL" in known:  # the name of a service alone means where it is
        return f"{variable}_URL"
    names = sorted(name.removeprefix(_PREFIX) for name in known)
    close = difflib.get_close_matches(variable.removeprefix(_PREFIX), names, n=1)
    return _PREFIX + close[0] if close else None


def _variable(field: str) -> str:
    return _PREFIX + field.upper()


def _variables() -> frozenset[str]:
    return frozenset(map(_variable, Settings.model_fields))


def _entries(text: str) -> tuple[str, ...]:
    return tuple(entry.strip() for entry in text.split(",") if entry.strip())


def _index(entry: str) -> tuple[str, str]:
    """(name, type) of NAME=TYPE. Raises ValueError."""
    name, _, kind = (part.strip() for part in entry.rpartition("="))
    types = get_args(IndexType)
    if not name or kind not in types:
        raise ValueError(f"{entry!r} is not NAME=TYPE, with one of the types {', '.join(types)}")
    return name, kind


def _problems(error: ValidationError) -> tuple[str, ...]:
    """A line for each variable. Several faults of one variable are those of its alternatives."""
    found: dict[str, list[str]] = {}
    for fault in error.errors(include_url=False, include_input=False):
        ours = fault["type"] == "value_error"  # pydantic puts a prefix before our message
        text = str(fault["ctx"]["error"]) if ours else fault["msg"]
        found.setdefault(_variable(str(fault["loc"][0])), []).append(text)
    return tuple(f"{variable}: {_alternatives(texts)}" for variable, texts in found.items())


def _alternatives(texts: Sequence[str]) -> str:
    return "; or ".join([texts[0], *(text[:1].lower() + text[1:] for text in texts[1:])])
