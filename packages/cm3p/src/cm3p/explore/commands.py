"""The command ``cm3p explore``. Nothing slow is imported before it runs."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from pentatonic.cli import check_inputs, make_output_place
from pentatonic.errors import UsageError


def explore_command(
    embeddings: Annotated[
        Path, typer.Argument(metavar="PARQUET", help="Embeddings, as cm3p embed or the original writes them.")
    ],
    out: Annotated[Path | None, typer.Option(metavar="FILE", help="Write the page to this file.")] = None,
    serve: Annotated[
        bool, typer.Option("--serve", help="Serve the page to the browsers of this machine.")
    ] = False,
    port: Annotated[int, typer.Option(min=0, max=65535, help="Of --serve; 0: any free one.")] = 0,
    umap: Annotated[
        bool, typer.Option("--umap", help="Also lay the maps out by UMAP; needs the extra umap, and minutes.")
    ] = False,
    clusters: Annotated[int, typer.Option(min=2, max=20, help="Groups that the page shows first.")] = 10,
    most: Annotated[
        int, typer.Option(min=1, help="Most maps on the page; of more, so many are drawn at random.")
    ] = 50_000,
) -> None:
    """Show embeddings as a map of maps: one page that works from disk, and asks nothing of a network.

    It has a layout by principal components, groups, nearest neighbours, a search, filters and an export of rows.
    """
    if out is None and not serve:
        raise UsageError("the page has no place; allowed: --out FILE, --serve, or both")
    check_inputs([embeddings])
    if out is not None:
        make_output_place(out, inputs=[embeddings])
    if serve:
        from cm3p.explore.server import check_server

        check_server()
    from cm3p.explore import page
    from cm3p.explore.table import read_table

    table = read_table(embeddings, most)
    html = page.render(table, embeddings.name, with_umap=umap, clusters=clusters)
    if out is not None:
        page.write(out, html)
        print(out)
    if serve:
        from cm3p.explore.server import serve as serve_page

        serve_page(html, port)
