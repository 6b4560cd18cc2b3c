"""Starting points of config.yaml by name, the paper's ablations, a baseline: values laid over, or under, the user's.

Only pipeline/planning/config.py reads this: a stage is handed the values, so no result depends on their name.
"""

from typing import Any

Values = dict[str, Any]

# The settings of the loop in DiffusionAvatars (Kirschstein et al., CVPR 2024), section 4.1, and in the released code
# where the paper is silent.
PAPER_LOOP: Values = {
    "texture_steps": 0,
    "texture_weight": 0.0,
    "batch": 8,
    "crop_height": 512,
    "crop_width": 512,
    "crop_share": 0.7,
    "learning_rate": 1e-4,
    "plane_learning_rate": 1e-2,
    "warmup_steps": 0,
    "rate_decay": "none",
    "beta2": 0.999,
    "weight_decay": 1e-2,
    "gradient_limit": 1.0,
    "limited": "controlnet",
    "snr_limit": 1e6,
    "eye_weight": 1.0,
    "mouth_weight": 1.0,
    "rare_share": 0.0,
    "plane_smoothness": 0.0,
    "average_decay": 0.0,
    "save_every": 1000,
    "preview_every": 5000,
}

PRESETS: dict[str, Values] = {
    "demo": {},  # the defaults of the settings' classes
    "paper": {
        "rig": {"width": 512, "height": 512},
        "train": {
            **PAPER_LOOP,
            "steps": 100_000,
            "terminal_share": 0.0,
            "architecture": {
                "backbone": "pretrained",
                "base": "none",
                "predicts": "v",
                "expression_tokens": 4,
                "eyes": "tokens",
                "beyond_mesh": False,
                "plane_size": 512,
                "plane_features": 16,
                "plane_spread": 1.0,
                # For the ablations without the pretrained model: a U-Net with about as many weights.
                "patch": 8,
                "channels": (288, 576, 1152, 1152),
                "attention_levels": 3,
                "layers": 2,
                "heads": 8,
                "groups": 32,
                "token_width": 1024,
            },
        },
        # Beyond the paper: rates that come to rest, an average of the weights.
        "distill": {
            **PAPER_LOOP,
            "steps": 10_000,
            "learning_rate": 5e-5,
            "plane_learning_rate": 1e-3,
            "rate_decay": "cosine",
            "average_decay": 0.99,
        },
        "render": {"film_scale": 1},
        "speed": {"film_scale": 1},
    },
}

# Table 3 of the paper, but for the head model.
ABLATIONS: dict[str, Values] = {
    "no_diffusion": {
        "train": {"terminal_share": 1.0, "architecture": {"process": "regression", "backbone": "scratch"}},
    },
    "no_expression": {"train": {"architecture": {"expression": "none"}}},
    "no_prior": {"train": {"architecture": {"backbone": "plain"}}},
    "no_features": {"train": {"texture_steps": 0, "texture_weight": 0.0, "architecture": {"features": "none"}}},
    "spherical_uv": {"train": {"architecture": {"features": "spherical"}}},
}

# Table 1's nearest relative: the same features, one pass, an absolute error (Thies et al. 2019, deferred neural
# rendering), and no code of the expression but the mesh's own shape.
BASELINES: dict[str, Values] = {
    "deferred": {
        "train": {
            "terminal_share": 1.0,
            "error": "absolute",
            "architecture": {"process": "regression", "backbone": "plain", "expression": "none"},
        },
    },
}


def laid_over(under: Values, over: Values) -> Values:
    """Nested values of both; where both have one, `over` wins."""
    both = {
        name: laid_over(under[name], over[name]) for name in under.keys() & over.keys() if _nested(under, over, name)
    }
    return under | over | both


def _nested(under: Values, over: Values, name: str) -> bool:
    return isinstance(under[name], dict) and isinstance(over[name], dict)
