"""Algorithm 1 as data: what each stage shows, for how long, and how it weighs the terms of the generator's loss."""

from dataclasses import dataclass, field


@dataclass(frozen=True)
class Weights:
    """The weights of Eq. 11, and of two terms that are ours. A term of weight 0 is not computed, but for L0."""

    reconstruction: float = 0.0  # alpha, of L0 (Eq. 7)
    supervision: float = 0.0  # beta, of L1 (Eq. 8)
    softness: float = 0.0  # gamma, of L2 (Eq. 9)
    bones: float = 0.0  # delta, of L3: each bone of a pseudo-image or phantom, alone in the soft tissue
    anchor: float = 0.0  # soft tissue under bone continues the tissue beside it; not in the paper
    truth: float = 0.0  # the layers of phantoms, which are known; not in the paper
    overlap: float = 1.0  # within L0 and L3: the overlap of the bones, against all of the hand or bone


@dataclass(frozen=True)
class Stage:
    """One stage. An epoch shows each of its radiographs once, or each phantom where it shows nothing else."""

    name: str
    epochs: int
    joints: str = "all"  # "apart": only radiographs whose bones do not overlap, or "all"
    untouched: float = 0.0  # share of the joints apart that are shown as they are, not pushed over each other
    phantoms: float = 0.0  # share of each batch
    originals: bool = False  # N_S learns from the radiographs before they are pushed, too
    switch: int = 0  # m: the epoch from which N_D plays, with the weights `after`
    before: Weights = field(default_factory=Weights)
    after: Weights = field(default_factory=Weights)
    shifts: int = 1  # random movements of each item for L1
    lr_generator: float = 1e-4
    lr_segmenter: float = 1e-4
    lr_discriminator: float = 5e-4
    halve_every: int = 100  # epochs after which the rates are halved
    warmup: int = 0  # steps in which the rates rise to their full height


# The authors' notes hold weights of the first regime that their paper and code leave out: 1, 0.4, 0.4.
PAPER = (
    Stage(
        "pseudo",
        epochs=300,
        joints="apart",
        originals=True,
        switch=200,
        before=Weights(reconstruction=1.0, supervision=0.4, bones=0.4),
        after=Weights(reconstruction=0.5, supervision=0.2, softness=0.2, bones=0.1),
    ),
    Stage("real", epochs=100, after=Weights(reconstruction=0.6, supervision=0.3, softness=0.1)),
)
CODE = (
    Stage(
        "pseudo",
        epochs=150,
        joints="apart",
        originals=True,
        shifts=2,
        after=Weights(reconstruction=0.5, supervision=0.2, softness=0.1, bones=0.2, overlap=0.2),
        lr_discriminator=3e-4,
    ),
    Stage(
        "real",
        epochs=100,
        shifts=2,
        after=Weights(reconstruction=0.6, supervision=0.3, softness=0.1, overlap=0.2),
        lr_segmenter=1e-5,
        lr_discriminator=4e-4,
    ),
)
PRESETS = {"paper": PAPER, "code": CODE}  # as the paper states them, and as its authors' published code sets them
