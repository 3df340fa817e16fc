"""`kindred dicom`: receives by C-STORE; `kindred dicom move`: has an archive send."""

from typing import Annotated

import typer

from cli.commands.system import become
from cli.options import examples

app = typer.Typer(
    invoke_without_command=True,
    help="Receive images by C-STORE, or have an archive send them.",
)

Title = Annotated[str, typer.Option("--ae", help="Our own AE title.")]


@app.callback(
    epilog=examples(
        "KINDRED_DICOM_PEERS=ORTHANC@10.0.0.5 kindred dicom --ae KINDRED --port 11112",
        "kindred dicom move --from ORTHANC@10.0.0.5:4242 --modality CR --date 20250101-",
    )
)
def dicom(
    context: typer.Context,
    ae: Title = "KINDRED",
    host: Annotated[str, typer.Option(help="Address to listen on.")] = "0.0.0.0",  # noqa: S104
    port: Annotated[int, typer.Option(min=0, max=65535, help="Port to listen on.")] = 11112,
) -> None:
    """Receive images by C-STORE from the peers of KINDRED_DICOM_PEERS, until it is stopped.

    What has come becomes jobs of a few hundred images. KINDRED_REDIS_URL names the Redis.
    """
    if context.invoked_subcommand is None:
        become("api.dimse", "--ae", ae, "--host", host, "--port", str(port))


@app.command(
    epilog=examples(
        "kindred dicom move --from ORTHANC@10.0.0.5:4242 --modality CR --date 20250101-20251231",
        "kindred dicom move --from PACS@pacs:104 --study 1.2.826.0.1.3680043.8.498.1 --hours 20-6",
    )
)
def move(
    archive: Annotated[
        str, typer.Option("--from", metavar="AE@HOST:PORT", help="The archive that is to send.")
    ],
    ae: Title = "KINDRED",
    modality: Annotated[
        list[str] | None, typer.Option(help="Only series of this modality; can be repeated.")
    ] = None,
    date: Annotated[
        str | None,
        typer.Option(metavar="FROM-TO", help="Days of studies, as 20250101-20251231 or 20250101-."),
    ] = None,
    study: Annotated[
        list[str] | None, typer.Option(metavar="UID", help="Only this study; can be repeated.")
    ] = None,
    hours: Annotated[
        str | None, typer.Option(metavar="FROM-TO", help="Hours of the day to ask in, as 20-6.")
    ] = None,
    pause: Annotated[float, typer.Option(min=0, help="Seconds to wait after each series.")] = 0,
    tls: Annotated[bool, typer.Option("--tls", help="Speak TLS to the archive.")] = False,
) -> None:
    """Have an archive send to `kindred dicom`, which must run: by C-FIND and C-MOVE.

    A second run asks only for the series that have not come whole.
    """
    given = {"--date": [date], "--hours": [hours], "--modality": modality, "--study": study}
    named = [
        part for name, values in given.items() for value in values or () if value
        for part in (name, value)
    ]  # fmt: skip
    flags = ["--tls"] if tls else []
    become("api.dimse.move", "--from", archive, "--ae", ae, "--pause", str(pause), *named, *flags)
