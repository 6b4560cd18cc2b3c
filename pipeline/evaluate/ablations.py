"""The table of ablations: what the method loses without each of its parts, beside what the paper says it loses."""

from pipeline.evaluate.evaluation import HEADLINE, Metrics

WHOLE = "whole"
FIGURES = {"psnr": 2, "psnr_head": 2, "ssim_head": 3, "flip_head": 3, "flicker": 2}  # and their decimals
TITLES = {
    WHOLE: "the whole method",
    "no_diffusion": "one pass, no diffusion",
    "no_expression": "no attention to z_exp",
    "no_prior": "plain U-Net, no pretrained model, no ControlNet",
    "no_features": "no spatial features",
    "spherical_uv": "a sphere in place of the TriPlanes",
}
PAPER_FIGURES = {"paper_psnr": 1, "paper_lpips": 3, "paper_jod": 2, "paper_akd": 2, "paper_csim": 3}
PAPER = {  # DiffusionAvatars (Kirschstein et al., CVPR 2024), table 3: means over three people
    WHOLE: (25.3, 0.074, 7.85, 1.91, 0.918),
    "no_diffusion": (25.1, 0.133, 7.69, 1.96, 0.892),
    "no_expression": (24.5, 0.081, 7.65, 1.98, 0.911),
    "no_prior": (24.5, 0.078, 7.67, 1.89, 0.913),
    "no_features": (24.9, 0.078, 7.77, 1.87, 0.918),
    "spherical_uv": (24.9, 0.075, 7.77, 1.95, 0.920),
}
NOTE = (
    "Columns without `paper_`: our figures on held-out cameras of held-out sequences (docs/stages/evaluate.md). The "
    "paper's are of other people, pictures and trainings: compare the differences between rows, not the columns."
)


def table(metrics: dict[str, Metrics]) -> list[list[str]]:
    """Header and one row per variant, from the metrics of each by name; a figure that a split lacks is empty."""
    rows = [["variant", *FIGURES, *PAPER_FIGURES]]
    for name, measured in metrics.items():
        avatar = measured[HEADLINE].get("avatar", {})
        ours = [f"{avatar[figure]:.{digits}f}" if figure in avatar else "" for figure, digits in FIGURES.items()]
        theirs = [f"{value:.{digits}f}" for value, digits in zip(PAPER[name], PAPER_FIGURES.values(), strict=True)]
        rows.append([name, *ours, *theirs])
    return rows


def as_tsv(rows: list[list[str]]) -> str:
    """The rows, separated by tabs."""
    return "".join("\t".join(row) + "\n" for row in rows)


def as_markdown(rows: list[list[str]]) -> str:
    """The rows as a table in words, with what may be compared below it."""
    head, *body = rows
    worded = [[TITLES[name], *figures] for name, *figures in body]
    lines = [head, ["---", *["---:"] * (len(head) - 1)], *worded]
    return "".join(f"| {' | '.join(line)} |\n" for line in lines) + f"\n{NOTE}\n"
