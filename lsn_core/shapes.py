"""Shapes, written in signatures and checked in the tests (jaxtyping + beartype).

Package-wide: images are float32 in [0, 1], 1 drawn white (dense); row 0 is at the fingertip side; lengths are pixels
unless a name ends in _mm. Layer and mask channels are ("soft", "lower", "upper"); mask channel 0 is the hand.
"""

from jaxtyping import Bool, Float
from torch import Tensor

Image = Float[Tensor, "b 1 h w"]  # radiographs, or one layer of each
Layers = Float[Tensor, "b 3 h w"]  # soft tissue, lower bone, upper bone, each in [0, 1]
Bones = Float[Tensor, "b 2 h w"]  # lower bone, upper bone
Masks = Float[Tensor, "b 3 h w"]  # hand, lower bone, upper bone, each 0 or 1
Logits = Float[Tensor, "b c h w"]  # before the sigmoid or softmax
Hole = Bool[Tensor, "b 1 h w"]  # where an image is to be filled in
Whole = Float[Tensor, "b 1 1 1"]  # one number for each image, to be spread over it
PerItem = Float[Tensor, " b"]  # one number for each image
Scalar = Float[Tensor, ""]
