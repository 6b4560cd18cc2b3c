"""A table as text: rows of cells, the header first, for spreadsheets, pages and papers."""

Rows = list[list[str]]


def tsv(rows: Rows) -> str:
    """Separated by tabs."""
    return "".join("\t".join(row) + "\n" for row in rows)


def markdown(rows: Rows, names: int = 1) -> str:
    """In Markdown; the first columns, `names` of them, hold words, the others numbers."""
    head, *body = rows
    ruler = ["---"] * names + ["---:"] * (len(head) - names)
    return "".join(f"| {' | '.join(row)} |\n" for row in [head, ruler, *body])


def latex(rows: Rows, names: int = 1) -> str:
    """A tabular in LaTeX; the first columns, `names` of them, hold words, the others numbers."""
    lines = [" & ".join(cell.replace("_", r"\_") for cell in row) + r" \\" for row in rows]
    columns = "l" * names + "r" * (len(rows[0]) - names)
    return "\n".join([rf"\begin{{tabular}}{{{columns}}}", *lines, r"\end{tabular}"]) + "\n"
