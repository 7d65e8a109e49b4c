"""The policy-and-value model and its loss."""

from __future__ import annotations

import math

import pytest
import torch
from transformers import AutoConfig, AutoModelForCausalLM, Gemma2Config, GPT2Config

from models.net import losses
from models.net.losses import accumulate_gradients, policy_value_loss
from models.net.output_rule import TrainError
from models.net.policy_value import PolicyValueConfig, PolicyValueLM, tiny_llama

VOCABULARY = 23


@pytest.fixture
def llama() -> PolicyValueLM:
    torch.manual_seed(1)
    model = tiny_llama(VOCABULARY, hidden_size=32, layers=2, heads=2, intermediate=48)
    torch.nn.init.normal_(model.value_head.outer.weight)
    return model


@pytest.fixture
def gpt2() -> PolicyValueLM:
    torch.manual_seed(2)
    fields = {"vocab_size": VOCABULARY, "n_embd": 32, "n_layer": 2, "n_head": 2, "bos_token_id": 1, "eos_token_id": 1}
    model = PolicyValueLM(PolicyValueConfig(GPT2Config(**fields))).eval()
    torch.nn.init.normal_(model.value_head.outer.weight)
    return model


def rows(*shape: int, seed: int = 3) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Tokens, ragged weights (none on the first three columns) and sparse values, as a learner would send them."""
    generator = torch.Generator().manual_seed(seed)
    tokens = torch.randint(4, VOCABULARY, shape, generator=generator)
    weight = torch.rand(shape, generator=generator) * (torch.rand(shape, generator=generator) < 0.7)
    weight[:, :3] = 0
    value = torch.rand(shape, generator=generator)
    value[torch.rand(shape, generator=generator) < 0.8] = torch.nan
    return tokens, weight, value


def loss_by_the_formula(model: PolicyValueLM, tokens, weight, value, coefficient: float) -> float:
    """The definition, number by number."""
    logits, value_logits = (output.tolist() for output in model(tokens))
    policy = weights = bce = count = 0.0
    for b in range(tokens.shape[0]):
        for t in range(tokens.shape[1]):
            if t and weight[b, t] != 0:
                row = logits[b][t - 1]
                log_normaliser = math.log(sum(math.exp(x) for x in row))
                policy -= float(weight[b, t]) * (row[int(tokens[b, t])] - log_normaliser)
                weights += abs(float(weight[b, t]))
            if not math.isnan(value[b, t]):
                p, target = 1 / (1 + math.exp(-value_logits[b][t])), float(value[b, t])
                bce -= target * math.log(p) + (1 - target) * math.log(1 - p)
                count += 1
    return policy / weights + coefficient * bce / count


@pytest.mark.parametrize("name", ["llama", "gpt2"])
def test_loss_matches_an_explicit_loop(name, request):
    model = request.getfixturevalue(name)
    data = rows(5, 11)
    loss, parts = policy_value_loss(model, *data, value_coefficient=0.7)
    assert float(loss.detach()) == pytest.approx(loss_by_the_formula(model, *data, 0.7), rel=1e-5)
    assert float(parts["policy_loss"] + 0.7 * parts["value_loss"]) == pytest.approx(float(loss.detach()), rel=1e-6)
    assert float(parts["policy_weight"]) == pytest.approx(float(data[1].sum()))
    assert int(parts["value_count"]) == int((~data[2].isnan()).sum())


@pytest.mark.parametrize("name", ["llama", "gpt2"])
def test_weights_below_zero_count_by_their_size(name, request):
    model = request.getfixturevalue(name)
    tokens, weight, value = rows(5, 11)
    advantage = weight * torch.where(torch.arange(5) % 2 == 0, 1.0, -1.0)[:, None]
    loss, parts = policy_value_loss(model, tokens, advantage, value, value_coefficient=0.7)
    assert float(loss.detach()) == pytest.approx(loss_by_the_formula(model, tokens, advantage, value, 0.7), rel=1e-5)
    assert float(parts["policy_weight"]) == pytest.approx(float(weight.sum()))


def test_a_token_of_weight_below_zero_becomes_less_probable(llama):
    tokens, value = rows(1, 6)[0], torch.full((1, 6), torch.nan)
    weight = torch.zeros(1, 6)
    weight[0, 4] = -1.0
    before = llama(tokens)[0].log_softmax(-1)[0, 3, tokens[0, 4]]
    accumulate_gradients(llama, tokens, weight, value, 0.5)
    torch.optim.SGD(llama.parameters(), lr=0.1).step()
    assert llama(tokens)[0].log_softmax(-1)[0, 3, tokens[0, 4]] < before - 0.01


@pytest.mark.parametrize("sign", [1.0, -1.0])
@pytest.mark.parametrize("name", ["llama", "gpt2"])
def test_gradients_in_chunks_equal_gradients_at_once(name, sign, request, monkeypatch):
    monkeypatch.setattr(losses, "HEAD_TOKENS", 3)
    model = request.getfixturevalue(name)
    data = rows(7, 11)
    data[1][::2] *= sign
    data[1][2], data[2][2] = 0.0, torch.nan  # a row that teaches nothing
    data[1][3, 5:], data[2][3, 5:] = 0.0, torch.nan  # a shorter one
    loss, parts = policy_value_loss(model, *data, value_coefficient=0.5)
    loss.backward()
    whole = [p.grad.clone() for p in model.parameters()]
    model.zero_grad()
    chunked = accumulate_gradients(model, *data, value_coefficient=0.5, chunk_tokens=22)
    for expected, parameter in zip(whole, model.parameters(), strict=True):
        torch.testing.assert_close(parameter.grad, expected, rtol=1e-4, atol=1e-6)
    for key, expected in parts.items():
        torch.testing.assert_close(chunked[key], expected)


@pytest.mark.parametrize(("policy", "value"), [(True, False), (False, True), (False, False)])
def test_a_batch_may_lack_policy_weights_or_values(llama, policy, value):
    tokens, weight, values = rows(4, 9)
    weight = weight if policy else torch.zeros_like(weight)
    values = values if value else torch.full_like(values, torch.nan)
    loss, parts = policy_value_loss(llama, tokens, weight, values, 0.5)
    assert torch.isfinite(loss)
    assert (parts["policy_loss"] > 0) == policy
    assert (parts["value_loss"] > 0) == value
    accumulate_gradients(llama, tokens, weight, values, 0.5)
    assert (llama.head.weight.grad is not None) == policy
    assert (llama.value_head.outer.weight.grad is not None) == value


def test_right_padding_changes_nothing(llama):
    tokens, weight, value = rows(4, 9)
    padded = [
        torch.cat((x, torch.full((4, 3), fill)), 1) for x, fill in ((tokens, 0), (weight, 0.0), (value, torch.nan))
    ]
    short, _ = policy_value_loss(llama, tokens, weight, value, 0.5)
    long, _ = policy_value_loss(llama, *padded, 0.5)
    torch.testing.assert_close(short, long)


def test_nan_weights_give_a_nan_loss(llama):
    llama.trunk.model.layers[0].self_attn.q_proj.weight.data[0, 0] = torch.nan
    loss, _ = policy_value_loss(llama, *rows(4, 9), 0.5)
    assert loss.isnan()


def test_logits_do_not_depend_on_padding_under_the_mask(llama, gpt2):
    tokens, _, _ = rows(3, 8)
    padded = torch.cat((tokens, torch.zeros(3, 2, dtype=torch.long)), 1)
    for model in (llama, gpt2):
        logits, values = model(padded, (padded != 0).long())
        expected_logits, expected_values = model(tokens)
        torch.testing.assert_close(logits[:, :8], expected_logits, rtol=1e-4, atol=1e-5)
        torch.testing.assert_close(values[:, :8], expected_values, rtol=1e-4, atol=1e-5)


def test_a_fresh_value_head_has_no_opinion():
    model = tiny_llama(VOCABULARY)
    assert not model(rows(2, 5)[0])[1].any()


def test_default_model_has_the_size_of_the_issue():
    assert 170_000 < sum(p.numel() for p in tiny_llama(110).parameters()) < 200_000


def test_tiny_llama_learns_quickly_from_scratch():
    """Copying: the second half of a row repeats the first, which takes attention; 150 steps at lr 3e-3."""
    torch.manual_seed(0)
    model = tiny_llama(12, hidden_size=32, layers=2, heads=2, intermediate=64)
    optimizer = torch.optim.AdamW(model.parameters(), lr=3e-3)
    generator = torch.Generator().manual_seed(0)
    seen = []
    for _ in range(150):
        half = torch.randint(4, 12, (64, 4), generator=generator)
        tokens, weight = torch.cat((half, half), 1), torch.ones(64, 8)
        weight[:, :4] = 0
        optimizer.zero_grad()
        parts = accumulate_gradients(model, tokens, weight, torch.full((64, 8), torch.nan), 0.5)
        optimizer.step()
        seen.append(float(parts["policy_loss"]))
    assert seen[0] > 2.0
    assert seen[-1] < 0.5, seen[::15]


def test_the_whole_model_round_trips_through_save_pretrained(llama, gpt2, tmp_path):
    for model in (llama, gpt2):
        model.save_pretrained(tmp_path / model.trunk.config.model_type)
        again = PolicyValueLM.from_pretrained(tmp_path / model.trunk.config.model_type)
        tokens, _, _ = rows(3, 8)
        for expected, found in zip(model(tokens), again(tokens), strict=True):
            torch.testing.assert_close(found, expected, rtol=1e-5, atol=1e-6)


def test_logits_are_those_of_a_trunk_that_caps_them():
    torch.manual_seed(4)
    config = Gemma2Config(
        vocab_size=VOCABULARY, hidden_size=32, intermediate_size=48, num_hidden_layers=2, num_attention_heads=2,
        num_key_value_heads=1, head_dim=16, final_logit_softcapping=0.5,
    )  # fmt: skip
    model = PolicyValueLM(PolicyValueConfig(config)).eval()
    tokens = rows(2, 7)[0]
    expected = model.trunk(input_ids=tokens).logits
    assert (model.head(model.hidden(tokens)) - expected).abs().max() > 1e-3, "nothing was capped"
    torch.testing.assert_close(model(tokens)[0], expected)
    weight, value = torch.ones(2, 7), torch.full((2, 7), torch.nan)
    nll = -expected[:, :-1].log_softmax(-1).gather(-1, tokens[:, 1:, None]).mean()
    torch.testing.assert_close(policy_value_loss(model, tokens, weight, value, 1.0)[0], nll)


SIZES = {
    "vocab_size": 40, "hidden_size": 16, "intermediate_size": 24, "num_hidden_layers": 1, "num_attention_heads": 2,
    "num_key_value_heads": 2, "head_dim": 8, "pad_token_id": 0, "bos_token_id": 1, "eos_token_id": 2,
}  # fmt: skip
BERT = {name: size for name, size in SIZES.items() if name not in ("num_key_value_heads", "head_dim")}


@pytest.mark.parametrize(
    ("kind", "more"),
    [
        ("granite", {"logits_scaling": 4.0}),  # divides
        ("hyperclovax", {"logits_scaling": 0.3}),  # multiplies
        ("cohere", {"logit_scale": 0.25}),
        ("recurrent_gemma", {"logits_soft_cap": 2.0, "num_hidden_layers": 3, "lru_width": 16}),
        ("llama4_text", {"intermediate_size_mlp": 24, "num_local_experts": 2}),
    ],
)
def test_logits_are_those_that_a_family_makes_in_its_own_way(kind, more):
    torch.manual_seed(0)
    model = PolicyValueLM.from_trunk(
        AutoModelForCausalLM.from_config(AutoConfig.for_model(kind, **SIZES | more))
    ).eval()
    model.trunk.get_output_embeddings().weight.data.normal_()
    tokens = torch.randint(3, 40, (2, 7))
    torch.testing.assert_close(model(tokens)[0], model.trunk(tokens).logits)


def test_a_family_whose_logits_are_made_by_more_than_an_output_layer_is_refused_for_training():
    torch.manual_seed(0)
    model = PolicyValueLM.from_trunk(
        AutoModelForCausalLM.from_config(AutoConfig.for_model("bert", **BERT, is_decoder=True))
    )
    model.trunk.get_output_embeddings().weight.data.normal_()
    with pytest.raises(TrainError, match="it can be searched, not trained; use another model"):
        model(torch.randint(3, 40, (2, 7)))


def test_an_output_layer_that_begins_at_zero_can_be_trained():
    model = tiny_llama(40)
    torch.nn.init.zeros_(model.head.weight)
    assert not model(torch.tensor([[3, 4, 5]]))[0].any()
