"""Views at another size, for training crops of a random scale."""

import torch
import torch.nn.functional as F

from pipeline.avatar.data.pictures import Part


def enlarge(pictures: Part, height: int, width: int) -> Part:
    """Pictures of another size: colours bilinearly, the rest from the nearest pixel, so that no geometry is mixed."""
    size = {name: tensor.shape[1:3] for name, tensor in vars(pictures).items() if tensor.ndim > 2}
    if set(size.values()) == {(height, width)}:
        return pictures
    parts = {}
    for name, tensor in vars(pictures).items():
        if name == "rgb":
            smooth = F.interpolate(tensor.permute(0, 3, 1, 2).float(), (height, width), mode="bilinear")
            tensor = smooth.permute(0, 2, 3, 1).round().to(torch.uint8)
        elif name in size:
            row, column = (
                ((torch.arange(new, device=tensor.device) + 0.5) * old / new).long()
                for new, old in zip((height, width), size[name], strict=True)
            )
            tensor = tensor[:, row][:, :, column]
        parts[name] = tensor
    return type(pictures)(**parts)
