"""The commands, put together. Each one's module imports what it needs when it runs."""

from __future__ import annotations

from typing import Annotated

import typer

import routellm_core
from routellm_core.cli._console import output
from routellm_core.cli._options import SeveralValuesCommand
from routellm_core.cli.calibrate import calibrate
from routellm_core.cli.chat import chat
from routellm_core.cli.data import data_app
from routellm_core.cli.doctor import doctor
from routellm_core.cli.evaluate import evaluate_app
from routellm_core.cli.route import route
from routellm_core.cli.serve import serve
from routellm_core.cli.train import train_app

app = typer.Typer(
    name="routellm",
    help="Route each prompt to the strong or the weak LLM. Routing works offline; only calling a model needs a key.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)


def _print_version(wanted: bool) -> None:
    if wanted:
        output.print(f"routellm-core {routellm_core.__version__}")
        raise typer.Exit


@app.callback()
def _root(
    _version: Annotated[
        bool, typer.Option("--version", help="Print the version and exit.", is_eager=True, callback=_print_version)
    ] = False,
) -> None:
    pass


app.command()(route)
app.command()(chat)
app.command()(doctor)
app.command(cls=SeveralValuesCommand)(serve)
app.command(cls=SeveralValuesCommand)(calibrate)
app.add_typer(evaluate_app, name="evaluate")
app.add_typer(data_app, name="data")
app.add_typer(train_app, name="train")
