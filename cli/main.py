"""The command line: what can be asked for, and how it ends.

Imports of what only one command needs are inside that command, so that each starts fast.
"""

import json
import os
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, NoReturn

import typer
from typer.exceptions import TyperException

from cli import keys
from cli.client import Client
from cli.documents import Action, Document
from cli.failure import CommandError, printable
from cli.ingest import Report, follow_job, ingest_dataset, ingest_upload
from cli.jobs import list_jobs, list_rejections, only_action, show_job
from cli.processes import module_command, module_environment
from cli.render import make_console, print_facets, print_images, print_json
from pipeline.base.errors import KindredError

LOCAL_URL = "http://127.0.0.1:8000"

app = typer.Typer(
    help="Similar-case image search.",
    add_completion=False,
    pretty_exceptions_enable=False,
)

app.add_typer(keys.app, name="keys")

Url = Annotated[str, typer.Option("--url", envvar="KINDRED_URL", help="The api to talk to.")]
Json = Annotated[bool, typer.Option("--json", help="Print one JSON document.")]
Filter = Annotated[
    str | None, typer.Option("--filter", metavar="JSON", help="A filter, as Qdrant has it.")
]
Data = Annotated[
    Path | None,
    typer.Option("--data", help="Folder for everything that is kept; default KINDRED_DATA."),
]
Host = Annotated[str, typer.Option(help="Address to listen on.")]
Port = Annotated[int, typer.Option(min=0, max=65535, help="0 takes any free one.")]


# --- the system ----------------------------------------------------------------------------------


@app.command()
def up(
    data: Data = None,
    host: Host = "127.0.0.1",
    port: Port = 8000,
    flower_port: Port = 5555,
) -> None:
    """Run the stand-alone system: Redis, worker, api and Flower. Ctrl-C stops all."""
    from cli.up import run_up

    run_up(data, host, port, flower_port)


@app.command()
def worker() -> None:
    """Run one worker in this process, for an installation with its own Redis."""
    _become("workers")


@app.command()
def api(
    host: Host = "127.0.0.1",
    port: Annotated[int, typer.Option(min=0, max=65535, help="Port to listen on.")] = 8000,
) -> None:
    """Run the api in this process, for an installation with its own Redis."""
    _become("api", "--host", host, "--port", str(port))


@app.command()
def demo() -> None:
    """Show the whole of it in a throw-away folder: ingest a sample, search, stop."""
    from cli.demo import run_demo

    run_demo()


def _become(module: str, *arguments: str) -> NoReturn:
    command = module_command(module, *arguments)
    os.execve(command[0], command, module_environment(os.environ))  # noqa: S606


# --- talking to it -------------------------------------------------------------------------------


@app.command()
def ingest(
    source: Annotated[
        list[str], typer.Argument(help="A hub data set, a folder or parquet; or files to upload.")
    ],
    split: Annotated[str | None, typer.Option(help="Split of the data set [train].")] = None,
    limit: Annotated[int | None, typer.Option(min=1, help="Only the first so many.")] = None,
    revision: Annotated[str | None, typer.Option(help="Commit, branch or tag on the hub.")] = None,
    image_column: Annotated[str | None, typer.Option(help="Column of the images.")] = None,
    id_column: Annotated[str | None, typer.Option(help="Column of the images' ids.")] = None,
    upload: Annotated[
        bool, typer.Option("--upload", help="Send local files through the api.")
    ] = False,
    detach: Annotated[bool, typer.Option("--detach", help="Do not wait for the end.")] = False,
    url: Url = LOCAL_URL,
    as_json: Json = False,
) -> None:
    """Embed images, follow how it goes, and end with the account."""
    report = Report(make_console(), as_json)
    options = {
        "split": split,
        "revision": revision,
        "image_column": image_column,
        "id_column": id_column,
    }
    with _client(url) as client:
        if upload:
            _refuse_options(options, "with --upload")
            ingest_upload(client, source, limit, report, detach=detach)
        elif len(source) > 1:
            raise CommandError("one data set or folder at a time; several files need --upload")
        else:
            ingest_dataset(client, source[0], {**options, "limit": limit}, report, detach=detach)


@app.command()
def search(
    image: Annotated[list[Path] | None, typer.Argument(help="Image files.")] = None,
    image_id: Annotated[str | None, typer.Option("--id", help="Id of an image held.")] = None,
    text: Annotated[str | None, typer.Option(help="Words, if the encoder reads text.")] = None,
    like: Annotated[list[str] | None, typer.Option(help="Like this image held; repeat it.")] = None,
    unlike: Annotated[list[str] | None, typer.Option(help="Unlike this one; repeat it.")] = None,
    strategy: Annotated[
        str | None, typer.Option(help="Of examples: average_vector or best_score.")
    ] = None,
    crop: Annotated[
        str | None, typer.Option(help="Only this part: LEFT,TOP,WIDTH,HEIGHT, each 0 to 1.")
    ] = None,
    filter_: Filter = None,
    only: Annotated[list[str] | None, typer.Option(help="Only this id; repeat it.")] = None,
    without: Annotated[list[str] | None, typer.Option(help="Not this id; repeat it.")] = None,
    not_same: Annotated[
        str | None, typer.Option(metavar="FIELD", help="Not its own, as in lesion_id.")
    ] = None,
    duplicates: Annotated[
        int | None,
        typer.Option(metavar="BITS", help="Near-duplicates: hashes differ by at most so many."),
    ] = None,
    threshold: Annotated[float | None, typer.Option(help="Least score.")] = None,
    group_by: Annotated[
        str | None, typer.Option(metavar="FIELD", help="Images with one value count as one.")
    ] = None,
    group_size: Annotated[int | None, typer.Option(min=1, help="Shown of each group.")] = None,
    limit: Annotated[int, typer.Option(min=1, help="How many neighbours.")] = 10,
    offset: Annotated[int, typer.Option(min=0, help="How many to leave out.")] = 0,
    include: Annotated[list[str] | None, typer.Option(help="Only this field; repeat it.")] = None,
    exclude: Annotated[list[str] | None, typer.Option(help="Not this field; repeat it.")] = None,
    save: Annotated[
        Path | None, typer.Option(metavar="FOLDER", help="Keep the pictures found there.")
    ] = None,
    url: Url = LOCAL_URL,
    as_json: Json = False,
) -> None:
    """Find the images most similar to one, to several, or to words."""
    from cli.search import make_query, parse_crop, print_hits, save_pictures

    options = {
        "image_id": image_id, "text": text, "positive": like, "negative": unlike,
        "strategy": strategy, "crop": parse_crop(crop), "filter": _filter(filter_),
        "ids": only, "not_ids": without, "not_same": not_same, "max_hash_distance": duplicates,
        "score_threshold": threshold, "group_by": group_by, "group_size": group_size,
        "limit": limit, "offset": offset or None, "include": include, "exclude": exclude,
    }  # fmt: skip
    query = make_query(options, image or ())
    with _client(url) as client:
        found = client.search(query, image or ())
        if save is not None:
            save_pictures(client, found["results"] or [], save)
    if as_json:
        print_json(found)
    else:
        print_hits(make_console(), found["results"] or [])


@app.command()
def batch(
    file: Annotated[Path, typer.Argument(help="A JSON list of searches; - reads standard input.")],
    url: Url = LOCAL_URL,
    as_json: Json = False,
) -> None:
    """Answer several searches at once, each with its own filter, fields and limit."""
    from cli.search import print_hits, read_batch

    with _client(url) as client:
        found = client.batch(read_batch(file))
    if as_json:
        print_json(found)
        return
    for hits in found["results"] or []:
        print_hits(make_console(), hits)


@app.command()
def facets(filter_: Filter = None, url: Url = LOCAL_URL, as_json: Json = False) -> None:
    """Count the images that fit a filter, and the values that they have."""
    with _client(url) as client:
        found = client.facets(_filter(filter_))
    if as_json:
        print_json(found)
    else:
        print_facets(make_console(), found)


@app.command()
def jobs(
    job_id: Annotated[str | None, typer.Argument(metavar="[ID]", help="One job.")] = None,
    cancel: Annotated[bool, typer.Option("--cancel", help="End it.")] = False,
    pause: Annotated[bool, typer.Option("--pause", help="Hold it.")] = False,
    resume: Annotated[bool, typer.Option("--resume", help="Go on with it.")] = False,
    retry: Annotated[bool, typer.Option("--retry", help="Try again what was rejected.")] = False,
    rejections: Annotated[
        bool, typer.Option("--rejections", help="All that was rejected, and why.")
    ] = False,
    follow: Annotated[bool, typer.Option("--follow", help="DecodeWatch it to its end.")] = False,
    url: Url = LOCAL_URL,
    as_json: Json = False,
) -> None:
    """List jobs, look at one, or change its course."""
    flags: dict[Action, bool] = {
        "cancel": cancel, "pause": pause, "resume": resume, "retry": retry,
    }  # fmt: skip
    action = only_action(flags)
    report = Report(make_console(), as_json)
    with _client(url) as client:
        if job_id is None:
            if action or rejections or follow:
                raise CommandError("which job? `kindred jobs` lists them")
            list_jobs(client, report)
        elif rejections:
            list_rejections(client, job_id, report)
        elif follow:
            job = client.act(job_id, action) if action else client.job(job_id)
            follow_job(client, job, report)
        else:
            show_job(client, job_id, action, report)


@app.command()
def images(
    filter_: Filter = None,
    limit: Annotated[int, typer.Option(min=1, help="How many.")] = 50,
    cursor: Annotated[str | None, typer.Option(help="Where the page before ended.")] = None,
    every: Annotated[bool, typer.Option("--all", help="All pages from there.")] = False,
    url: Url = LOCAL_URL,
    as_json: Json = False,
) -> None:
    """List the images held."""
    with _client(url) as client:
        page = client.images(_filter(filter_), limit, cursor)
        while every and page["cursor"]:
            following = client.images(_filter(filter_), limit, page["cursor"])
            page = {
                "images": [*page["images"], *following["images"]],
                "cursor": following["cursor"],
            }
    if as_json:
        print_json(page)
        return
    console = make_console()
    print_images(console, page["images"])
    if page.get("cursor"):
        console.print(f"there are more: --cursor {page['cursor']}", soft_wrap=True)


@app.command()
def export(
    folder: Annotated[Path, typer.Argument(help="A new folder, or an empty one.")],
    filter_: Filter = None,
    url: Url = LOCAL_URL,
    as_json: Json = False,
) -> None:
    """Write all vectors as vectors.npy, and beside them payloads.jsonl, one line a row."""
    from cli.export import export_images

    with _client(url) as client:
        rows = export_images(client, folder, _filter(filter_))
    if as_json:
        print_json({"rows": rows})
    else:
        typer.echo(f"{rows:,} vectors in {folder / 'vectors.npy'}")


@app.command()
def backup(
    folder: Annotated[Path, typer.Argument(help="A new folder, or an empty one.")],
    url: Url = LOCAL_URL,
    as_json: Json = False,
) -> None:
    """Copy everything out of a running system: images, vectors, jobs, tombstones."""
    from cli.backup import backup as copy_out

    with _client(url) as client:
        manifest = copy_out(client, folder)
    if as_json:
        print_json(manifest)
    else:
        typer.echo(f"{manifest['images']:,} images and {manifest['blobs']:,} blobs in {folder}")


@app.command()
def restore(
    folder: Annotated[Path, typer.Argument(help="What `kindred backup` wrote.")],
    data: Data = None,
    as_json: Json = False,
) -> None:
    """Bring a backup onto an empty machine, on which nothing runs yet."""
    from cli.backup import restore as bring_back
    from cli.up import load_settings

    manifest = bring_back(folder, load_settings(data))
    if as_json:
        print_json(manifest)
    else:
        typer.echo(f"{manifest['images']:,} images are back; start it with `kindred up`")


@app.command()
def delete(
    image_ids: Annotated[list[str] | None, typer.Argument(help="Ids of images held.")] = None,
    same: Annotated[
        str | None, typer.Option(metavar="FIELD=VALUE", help="A lesion or patient, by its id.")
    ] = None,
    filter_: Filter = None,
    yes: Annotated[bool, typer.Option("--yes", help="Do not ask.")] = False,
    receipt: Annotated[
        Path | None, typer.Option(metavar="FILE", help="Keep the list of what went there.")
    ] = None,
    url: Url = LOCAL_URL,
    as_json: Json = False,
) -> None:
    """Delete images for good: no ingest brings them back until that is undone."""
    from cli import deletions

    wanted = deletions.make_deletion(image_ids or (), same, _filter(filter_))
    with _client(url) as client:
        if not yes:
            deletions.confirm(client, wanted)
        deletions.delete(client, wanted, receipt, as_json=as_json)


@app.command()
def undelete(
    deletion: Annotated[str, typer.Argument(help="As `kindred delete` named it.")],
    url: Url = LOCAL_URL,
) -> None:
    """Let what a deletion took be ingested again."""
    with _client(url) as client:
        lifted = client.lift(deletion)
    typer.echo(f"{lifted['count']:,} images may be ingested again")


def _client(url: str) -> Client:
    return Client(url, os.environ.get("KINDRED_API_KEY"))


def _filter(text: str | None) -> Document | None:
    if text is None:
        return None
    try:
        filter_ = json.loads(text)
    except ValueError as error:
        raise CommandError(f"--filter is not JSON: {error}") from error
    if not isinstance(filter_, dict):
        raise CommandError('--filter is not a JSON object, as in {"must": [ … ]}')
    return filter_


def _refuse_options(options: Document, where: str) -> None:
    for name, value in options.items():
        if value is not None:
            raise CommandError(f"--{name.replace('_', '-')} has no meaning {where}")


# --- ends ----------------------------------------------------------------------------------------


def run(arguments: Sequence[str] | None = None) -> int:
    """The exit code. Whatever goes wrong is one line on standard error."""
    given = list(sys.argv[1:] if arguments is None else arguments)
    try:
        return app(args=given or ["--help"], prog_name="kindred", standalone_mode=False) or 0
    except CommandError as error:
        return _fail(str(error), error.exit_code)
    except KindredError as error:  # of the data folder, which some commands read themselves
        return _fail(str(error), 1)
    except TyperException as error:  # an unknown option, a value that is no number
        return _fail(f"{error.format_message()} (see kindred --help)", 1)
    except BrokenPipeError:  # `kindred images | head`
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 1


def _fail(line: str, code: int) -> int:
    typer.echo(f"kindred: {printable(line)}", err=True)
    return code


def main() -> NoReturn:
    sys.exit(run())
