"""The paper's critics: the authors' sizes, and statistics that a frozen one keeps."""

import copy

import pytest
import torch

from lsn_core.critic import Critic


@pytest.mark.parametrize(("outputs", "parameters"), [(3, 14_787_907), (1, 14_787_777)])
def test_they_have_the_authors_numbers_of_parameters(outputs, parameters):
    """As counted in the published code (method.md, A4)."""
    assert sum(parameter.numel() for parameter in Critic(outputs).parameters()) == parameters


@pytest.fixture(scope="module", name="critic")
def _critic() -> Critic:
    torch.manual_seed(0)
    return Critic(3)


@pytest.mark.parametrize("sides", [(32, 32), (16, 48)])
def test_logits_are_of_the_frame_s_size(critic, sides):
    assert critic.eval()(torch.rand(2, 1, *sides)).shape == (2, 3, *sides)


def test_statistics_change_in_training_and_stay_when_frozen(critic):
    before = copy.deepcopy(dict(critic.named_buffers()))
    images = torch.rand(2, 1, 32, 32)
    answers = [critic.eval()(images) for _ in range(2)]
    assert torch.equal(*answers)  # no dropout either
    assert all(torch.equal(before[name], buffer) for name, buffer in critic.named_buffers())
    critic.train()(images)
    assert not any(torch.equal(before[name], buffer) for name, buffer in critic.named_buffers())


def test_each_pixel_knows_of_all_the_frame(critic):
    """Down to a sixteenth and up again: the answer in one corner depends on the image in the other."""
    image = torch.rand(1, 1, 64, 64, requires_grad=True)
    critic.eval()(image)[0, 0, 0, 0].backward()
    assert image.grad[0, 0, 40:, 40:].abs().max() > 0
