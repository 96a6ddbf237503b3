"""`jaxmerge watch`: a run's report in the browser, as it grows."""

from pathlib import Path
from typing import Annotated

import typer


def command(
    run: Annotated[Path, typer.Argument(metavar="RUN", help="The folder of a run, going on or finished.")],
    host: Annotated[str, typer.Option(help="The address to listen on; others than this machine's own see the run.")] = (
        "127.0.0.1"
    ),
    port: Annotated[int, typer.Option(help="0: any that is free.")] = 0,
    opened: Annotated[bool, typer.Option("--open/--no-open", help="Open it in the browser.")] = False,
) -> None:
    """Serve the report of a run while it grows, until Ctrl-C."""
    from jaxmerge.report.live import serve

    with serve(run, host, port) as server:
        shown = f"[{host}]" if ":" in host else host
        address = f"http://{shown}:{server.server_address[1]}/"
        typer.echo(f"{address} shows {run}; Ctrl-C ends it")
        try:
            if opened:
                import webbrowser

                webbrowser.open(address)
            server.serve_forever()
        except KeyboardInterrupt:
            pass
