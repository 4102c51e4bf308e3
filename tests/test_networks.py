"""Networks: what the heads guarantee, what the backbones are, and that saved weights come back."""

import hashlib
import json
import math
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from safetensors import safe_open
from safetensors.torch import save_file
from torch import nn

from lsn_core.files import InputError
from lsn_core.masks import bones, dilate
from lsn_core.networks import (
    HEADS,
    NETWORKS,
    Absorbing,
    Generator,
    Recipe,
    Separator,
    enlarge,
    load_generator,
    partition_head,
    save_generator,
    sigmoid_head,
    start_from,
    weights_path,
)
from lsn_core.phantom import Phantom, phantoms
from lsn_core.radiograph import compose
from lsn_core.transunet import Attention, TransUNet

RECIPE = Recipe("compact", "partition", 64, 4.0)


def random(*shape: int, seed: int = 0) -> torch.Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed))


def joints(count: int, size: int) -> tuple[torch.Tensor, torch.Tensor]:
    """Images and masks of phantoms, the first one a thumb whose crop shows air."""
    drawn = list(phantoms(count, seed=2, size=size))
    assert drawn[0].masks[0].min() == 0
    return torch.stack([joint.image for joint in drawn]), torch.stack([joint.masks for joint in drawn])


def parameters(net: nn.Module) -> int:
    return sum(parameter.numel() for parameter in net.parameters())


@pytest.fixture(scope="module")
def generator() -> Generator:
    torch.manual_seed(0)
    return NETWORKS["compact"]("partition", 64).generator.eval()


@pytest.mark.parametrize("scale", [0.0, 1.0, 50.0])
def test_the_partition_recomposes_every_pixel_of_the_hand_whatever_the_logits(scale):
    image, masks = joints(3, 64)
    layers = partition_head(scale * random(3, 3, 64, 64), image, masks)
    torch.testing.assert_close(compose(layers), image * masks[:, :1], atol=1e-6, rtol=0)
    assert layers.min() >= 0 and layers.max() <= 1 and not layers[masks == 0].any()


def test_the_partition_of_white_stops_half_a_16_bit_step_below():
    image, masks = torch.ones(1, 1, 8, 8), torch.ones(1, 3, 8, 8)
    layers = partition_head(random(1, 3, 8, 8), image, masks)
    torch.testing.assert_close(compose(layers), image, atol=2.0**-17 + 1e-7, rtol=0)


def test_equal_logits_share_the_absorbance_equally_among_the_layers_that_cover_a_pixel():
    image = torch.full((1, 1, 1, 3), 1 - math.exp(-0.6))
    masks = torch.tensor([[[[1.0, 1.0, 1.0]], [[0.0, 1.0, 1.0]], [[0.0, 0.0, 1.0]]]])
    absorbed = -torch.log1p(-partition_head(torch.zeros(1, 3, 1, 3), image, masks))[0, :, 0]
    torch.testing.assert_close(absorbed, torch.tensor([[0.6, 0.3, 0.2], [0.0, 0.3, 0.2], [0.0, 0.0, 0.2]]))
    logits = torch.tensor([math.log(2), 0.0, math.log(3)]).reshape(1, 3, 1, 1).expand(1, 3, 1, 3)
    absorbed = -torch.log1p(-partition_head(logits, image, masks))[0, :, 0, 2]
    torch.testing.assert_close(absorbed, torch.tensor([0.2, 0.1, 0.3]))


@pytest.mark.parametrize("head", HEADS)
def test_heads_stay_in_range_and_in_their_masks_and_have_finite_slopes(head):
    image, masks = joints(2, 32)
    image[0, 0, :4], masks[1, :, :8] = 1.0, 0.0  # white pixels, and rows that nothing covers
    logits = (20 * random(2, 3, 32, 32)).requires_grad_()
    layers = HEADS[head](logits, image.requires_grad_(), masks)
    assert layers.min() >= 0 and layers.max() <= 1 and not layers[masks == 0].any()
    compose(layers).square().sum().backward()
    assert all(leaf.grad is None or leaf.grad.isfinite().all() for leaf in (logits, image))
    assert not logits.grad[masks.expand_as(logits) == 0].any() and logits.grad.any()


def test_the_sigmoid_head_is_a_free_sigmoid():
    logits = torch.tensor([0.0, math.log(3), -math.log(3)]).reshape(1, 3, 1, 1)
    layers = sigmoid_head(logits, torch.zeros(1, 1, 1, 1), torch.ones(1, 3, 1, 1))
    torch.testing.assert_close(layers.flatten(), torch.tensor([0.5, 0.75, 0.25]))


def test_the_generator_never_sees_the_air(generator):
    image, masks = joints(2, 64)
    noisy = torch.where(masks[:, :1] == 0, 0.8, image)
    with torch.no_grad():
        torch.testing.assert_close(generator(noisy, masks), generator(image, masks))


def test_compact_critics_keep_no_statistics_and_answer_the_same_in_training_as_in_use():
    """Else they would absorb the generator's images into their own."""
    torch.manual_seed(0)
    net = NETWORKS["compact"]("partition", 64).segmenter
    assert not list(net.buffers()) and not any(isinstance(m, nn.Dropout) for m in net.modules())
    images = random(3, 1, 64, 64)
    with torch.no_grad():
        trained, used, alone = net.train()(images), net.eval()(images), net(images[1:2])
    assert torch.equal(trained, used)
    torch.testing.assert_close(alone, used[1:2], atol=1e-4, rtol=1e-4)


def test_the_compact_backbone_sees_how_much_is_absorbed_and_finds_black_finite():
    image, masks = joints(2, 64)
    inputs = torch.cat((image, masks), dim=1)
    seen = Absorbing(nn.Identity())(inputs)
    torch.testing.assert_close(seen[:, :4], inputs)
    torch.testing.assert_close(seen[:, 4:].exp() - 0.02, -torch.log1p(-image), atol=1e-5, rtol=1e-5)
    black = torch.zeros(1, 4, 8, 8, requires_grad=True)
    Absorbing(nn.Identity())(black).sum().backward()
    assert black.grad.isfinite().all()


@pytest.mark.parametrize(("name", "size"), [("compact", 32), ("compact", 96), ("paper", 32)])
def test_every_network_answers_at_the_size_of_its_frame(name, size):
    with torch.device("meta"):
        nets = NETWORKS[name]("sigmoid", size)
        image, masks = torch.empty(2, 1, size, size), torch.empty(2, 3, size, size)
        assert nets.generator(image, masks).shape == nets.segmenter(image).shape == (2, 3, size, size)
        assert nets.discriminator(image).shape == (2, 1, size, size)


def test_networks_have_the_sizes_that_they_claim():
    with torch.device("meta"):
        compact, paper = NETWORKS["compact"]("partition", 128), NETWORKS["paper"]("sigmoid", 256)
    assert parameters(compact.generator) == pytest.approx(0.8e6, rel=0.05)
    assert parameters(compact.segmenter) == pytest.approx(0.3e6, rel=0.15)
    assert parameters(paper.segmenter) == pytest.approx(14_787_907, rel=0.01)  # the paper's U-Net N_S
    assert parameters(paper.discriminator) == pytest.approx(14_787_777, rel=0.01)


def test_the_transunet_has_the_authors_parameters_but_for_a_class_token_and_biases():
    """Theirs has 67,085,587: no bias in the attention, one before each normalisation of the decoder, a class token."""
    with torch.device("meta"):
        net = TransUNet()
    biases = sum(m.bias.numel() for a in net.modules() if isinstance(a, Attention) for m in (a.qkv, a.out))
    decoder = sum(
        m.num_features for part in (net.project, net.up) for m in part.modules() if isinstance(m, nn.BatchNorm2d)
    )
    token_and_its_position = 2 * 1024
    assert parameters(net) - biases + decoder + token_and_its_position == 67_085_587


def test_a_transunet_maps_frames_of_its_size_and_mixes_all_of_their_tokens():
    torch.manual_seed(0)
    net = TransUNet(2, 3, size=64, width=8, depth=2, heads=2, hidden=16).eval()
    images = random(2, 2, 64, 64)
    images.requires_grad_()
    logits = net(images)
    assert logits.shape == (2, 3, 64, 64)
    logits[0, :, :2, :2].sum().backward()  # one corner depends on the other one, and on no other image
    assert images.grad[0, :, -16:, -16:].abs().sum() > 0 and not images.grad[1].any()


def test_attention_is_the_textbook_formula():
    torch.manual_seed(0)
    attention, tokens = Attention(12, heads=3).double(), random(2, 5, 12).double()
    weights, biases = attention.qkv.weight.chunk(3), attention.qkv.bias.chunk(3)
    q, k, v = (tokens @ weight.T + bias for weight, bias in zip(weights, biases, strict=True))
    heads = []
    for part in (slice(0, 4), slice(4, 8), slice(8, 12)):
        scores = torch.softmax(q[..., part] @ k[..., part].mT / math.sqrt(4), dim=-1)
        heads.append(scores @ v[..., part])
    expected = torch.cat(heads, dim=-1) @ attention.out.weight.T + attention.out.bias
    torch.testing.assert_close(attention(tokens), expected)


def test_a_separator_recomposes_a_frame_of_another_size_than_it_was_trained_on(generator):
    joint = Phantom(1, "thumb", 256).render()
    image, masks = joint.image[None], joint.masks[None]
    with torch.no_grad():
        layers = Separator(generator, RECIPE)(image, masks)
    wide = dilate(masks, 4.0)
    torch.testing.assert_close(compose(layers), image * wide[:, :1], atol=2e-6, rtol=0)
    assert not layers[wide == 0].any() and layers[(wide - masks) > 0].any()


def test_enlarged_layers_compose_to_the_image_and_come_close_to_the_truth():
    small, large = Phantom(3, "small", 64).render(0.5), Phantom(3, "small", 256).render(0.5)
    image, masks = large.image[None], large.masks[None]
    found, truth = enlarge(small.layers[None], image, masks), large.layers[None]
    torch.testing.assert_close(compose(found), image, atol=2e-6, rtol=0)
    assert not found[masks == 0].any() and found.min() >= 0 and found.max() < 1
    flesh = (bones(masks) == 0) & (masks[:, :1] > 0)
    torch.testing.assert_close(found[:, :1][flesh], image[flesh], atol=2e-6, rtol=0)
    assert (found - truth).square().mean().sqrt() < 0.015  # the flesh's own grain, which 64 px do not show
    plain = torch.nn.functional.interpolate(small.layers[None], 256, mode="bilinear")
    assert (plain - truth)[:, 1:].square().mean() > 6 * (found - truth)[:, 1:].square().mean()  # finer detail is bone's


def test_enlarging_gives_both_bones_a_share_where_the_smaller_copy_has_none():
    image, masks = torch.full((1, 1, 4, 4), 1 - math.exp(-0.6)), torch.ones(1, 3, 4, 4)
    layers = enlarge(torch.zeros(1, 3, 2, 2), image, masks)
    torch.testing.assert_close(-torch.log1p(-layers[0, :, 0, 0]), torch.tensor([0.0, 0.3, 0.3]))
    assert not enlarge(torch.ones(1, 3, 2, 2), image, 0 * masks).any()


def test_a_separator_at_the_trained_size_is_its_generator(generator):
    image, masks = joints(2, 64)
    with torch.no_grad():
        assert torch.equal(Separator(generator, RECIPE)(image, masks), generator(image, dilate(masks, 1.0)))


def test_saved_weights_come_back_at_half_precision_ready_to_use(generator, tmp_path):
    path = save_generator(tmp_path / "new" / "generator.safetensors", generator, RECIPE, {"commit": "abc"})
    image, masks = joints(2, 64)
    for given in (path, str(path), path.parent):  # a file, or a run's folder
        loaded = load_generator(given)
        assert loaded.recipe == RECIPE and not loaded.training
        assert not any(parameter.requires_grad for parameter in loaded.parameters())
        for name, value in generator.state_dict().items():
            assert torch.equal(loaded.generator.state_dict()[name], value.half().float())
    with torch.no_grad():
        torch.testing.assert_close(loaded(image, masks), generator(image, dilate(masks, 1.0)), atol=0.01, rtol=0)
    with safe_open(path, framework="pt") as file:
        assert json.loads(file.metadata()["provenance"]) == {"commit": "abc"}
    assert path.stat().st_size < 2.2 * parameters(generator)  # two bytes a number


RECIPES = ({}, {"networks": "unknown"}, {"head": "unknown"}, {"colour": "red"}, {"networks": "paper", "size": "large"})


def broken(path, **changes):
    """A file of weights whose recipe is not what this version understands."""
    save_file({"x": torch.zeros(1)}, path, {"recipe": json.dumps(RECIPE.__dict__ | changes)})
    return path


def test_what_is_no_generator_is_refused_by_name(generator, tmp_path):
    saved = save_generator(tmp_path / "good.safetensors", generator, RECIPE, {})
    text, cut, bare = (tmp_path / name for name in ("notes.safetensors", "cut.safetensors", "bare.safetensors"))
    text.write_text("not weights")
    cut.write_bytes(saved.read_bytes()[:-100])
    save_file({"x": torch.zeros(1)}, bare)
    others = [broken(tmp_path / f"{k}.safetensors", **changes) for k, changes in enumerate(RECIPES)]
    for path in (text, cut, bare, *others):
        with pytest.raises(InputError, match="not a generator of this version") as refused:
            load_generator(path)
        assert str(refused.value).startswith(f"{path}: ") and "\n" not in str(refused.value)
    for missing in (tmp_path / "none.safetensors", tmp_path):
        with pytest.raises(InputError, match=f"^{tmp_path}.*: no such weights; give a trained run's folder"):
            load_generator(missing)


def shipped(folder, monkeypatch, generator, digest=None):
    """A folder of shipped weights with one generator, and its hash as it should be or as given."""
    path = save_generator(folder / "small.safetensors", generator, RECIPE, {})
    digest = digest or hashlib.sha256(path.read_bytes()).hexdigest()
    (folder / "SHA256SUMS").write_text(f"{'0' * 64}  other.safetensors\n{digest}  small.safetensors\n")
    monkeypatch.setattr("lsn_core.networks.WEIGHTS", (folder,))
    return path


def test_shipped_weights_are_known_by_their_name(generator, tmp_path, monkeypatch):
    path = shipped(tmp_path, monkeypatch, generator)
    assert weights_path("small") == path and load_generator("small").recipe == RECIPE


@pytest.mark.parametrize("harm", ["changed", "unlisted", "no list"])
def test_shipped_weights_that_are_not_what_was_shipped_are_refused(harm, generator, tmp_path, monkeypatch):
    path = shipped(tmp_path, monkeypatch, generator)
    if harm == "changed":
        content = bytearray(path.read_bytes())
        content[-1] ^= 1
        path.write_bytes(content)
    else:
        (tmp_path / "SHA256SUMS").write_text("") if harm == "unlisted" else (tmp_path / "SHA256SUMS").unlink()
    with pytest.raises(InputError, match="SHA256SUMS") as refused:
        load_generator("small")
    assert str(refused.value).startswith(str(tmp_path)) and "\n" not in str(refused.value)


def test_the_model_card_names_the_hashes_of_all_that_ships():
    """And they are those of the files: `load_generator` compares them."""
    folder = Path(__file__).parents[1] / "data" / "weights"
    for path in folder.glob("*.safetensors"):
        assert weights_path(path.stem) == path
        assert hashlib.sha256(path.read_bytes()).hexdigest() in (folder / "README.md").read_text()


# --- starting from trained weights -----------------------------------------------------------------------------------


def test_a_generator_starts_from_trained_weights_at_another_size(tmp_path):
    trained, fresh = (NETWORKS["compact"]("partition", size).generator for size in (64, 32))
    save_generator(tmp_path / "w.safetensors", trained, RECIPE, {})
    start_from(fresh, tmp_path / "w.safetensors", networks="compact", head="partition")
    for mine, theirs in zip(fresh.state_dict().values(), trained.state_dict().values(), strict=True):
        torch.testing.assert_close(mine, theirs.half().float(), rtol=0, atol=0)


def test_weights_of_other_networks_are_refused(tmp_path):
    generator = NETWORKS["compact"]("sigmoid", 64).generator
    path = save_generator(tmp_path / "w.safetensors", generator, replace(RECIPE, head="sigmoid"), {})
    with pytest.raises(InputError, match="are of compact networks with the sigmoid head; train those"):
        start_from(generator, path, networks="compact", head="partition")
