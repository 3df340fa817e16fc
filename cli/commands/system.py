"""`kindred up`, `worker`, `api`, `status` and `demo`: what runs the system, or a part of it."""

import os
from typing import Annotated, NoReturn

import typer

from cli.failure import ExitCode
from cli.options import LOCAL_URL, Data, Host, Json, Port, Url, examples
from cli.processes import module_command, module_environment

app = typer.Typer()

FlowerPort = Annotated[
    int, typer.Option(min=0, max=65535, help="Port of Flower; 0 takes a free one.")
]


@app.command(epilog=examples("kindred up", "kindred up --data /srv/kindred --port 8080"))
def up(
    data: Data = None,
    host: Host = "127.0.0.1",
    port: Port = 8000,
    flower_port: FlowerPort = 5555,
    dicom_port: Annotated[
        int | None,
        typer.Option(
            min=0, max=65535, help="Receive images by C-STORE there, as `kindred dicom` does."
        ),
    ] = None,
) -> None:
    """Run the stand-alone system: Redis, worker, api and Flower. Ctrl-C stops all."""
    from cli.up import run_up

    run_up(data, host, port, flower_port, dicom_port)


@app.command(epilog=examples("kindred worker", "KINDRED_DEVICES=cuda:0,cuda:3 kindred worker"))
def worker() -> None:
    """Run a worker on each device (KINDRED_DEVICES). KINDRED_REDIS_URL names the Redis.

    One that ends starts again; Ctrl-C, or a signal to this process, stops all.
    """
    from cli.workers import run_workers

    run_workers()


@app.command(epilog=examples("kindred api --host 0.0.0.0 --port 8000"))
def api(host: Host = "127.0.0.1", port: Port = 8000) -> None:
    """Run the api in this process. KINDRED_REDIS_URL names the Redis."""
    become("api", "--host", host, "--port", str(port))


@app.command(epilog=examples("kindred status", "kindred status --url https://hospital/kindred"))
def status(url: Url = LOCAL_URL, as_json: Json = False) -> None:
    """Show whether a search would be answered, and which part of the system is away.

    Ends with exit code 1 if none would be.
    """
    from cli.client import connect
    from cli.render import print_json, readiness_lines

    with connect(url) as client:
        found = client.readiness()
    if as_json:
        print_json(found)
    else:
        typer.echo("\n".join(readiness_lines(found)))
    if found["status"] != "ready":
        raise typer.Exit(ExitCode.FAILED)


@app.command(epilog=examples("kindred demo"))
def demo() -> None:
    """Ingest a sample and search in it. All of it happens in a temporary folder."""
    from cli.demo import run_demo

    run_demo()


def become(module: str, *arguments: str) -> NoReturn:
    """Runs a module in the place of this process."""
    command = module_command(module, *arguments)
    os.execve(command[0], command, module_environment(os.environ))  # noqa: S606
