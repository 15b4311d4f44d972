"""Matrices moved by Muon; a teacher that is asked about each batch once."""

from __future__ import annotations

import onnx_ir as ir
import pytest
import torch
from samples import encoder

from burnish.training.memory import Memory
from burnish.training.muon import Muon, orthogonal
from burnish.training.weights import inner_products, trained_in


def test_singular_values_come_nearer_to_one() -> None:
    torch.manual_seed(0)
    left, _ = torch.linalg.qr(torch.randn(2, 16, 16))
    right, _ = torch.linalg.qr(torch.randn(2, 24, 24))
    wide = left @ torch.diag_embed(torch.linspace(1.0, 0.05, 16)) @ right[:, :16]
    found = orthogonal(wide)
    values = left.mT @ found @ right[:, :16].mT
    assert float((values - torch.diag_embed(values.diagonal(dim1=1, dim2=2))).abs().max()) < 1e-4
    kept = torch.linalg.svdvals(found)
    assert float(kept.min()) > 0.15
    assert float(kept.max()) < 1.3
    assert float(orthogonal(torch.zeros(1, 3, 4)).abs().max()) == 0.0


@pytest.mark.parametrize("shape", [(6, 10), (10, 6)])
def test_a_matrix_moves_against_its_gradient_whatever_the_size_of_that(
    shape: tuple[int, int],
) -> None:
    torch.manual_seed(0)
    gradient = torch.randn(shape)
    moved = []
    for size in (1.0, 1e-3):
        weight = torch.nn.Parameter(torch.zeros(shape))
        bias = torch.nn.Parameter(torch.zeros(3))
        groups = [{"params": [weight], "weight_decay": 0.0, "muon": True},
                  {"params": [bias], "weight_decay": 0.0}]  # fmt: skip
        optimizer = Muon(groups, 0.1)
        weight.grad, bias.grad = gradient * size, torch.ones(3)
        optimizer.step()
        assert float((weight.detach() * gradient).sum()) < 0.0
        assert torch.allclose(bias.detach(), torch.full((3,), -0.1), atol=1e-4)  # that of AdamW
        moved.append(weight.detach().clone())
    assert torch.allclose(moved[0], moved[1], atol=1e-4)


def test_tables_vectors_and_the_last_layer_are_left_to_adamw() -> None:
    model = ir.from_proto(encoder(layers=1))
    names = trained_in(model)
    chosen = inner_products(model, names)
    assert chosen < set(names)
    for name in names:
        value = model.graph.initializers[name]
        readers = {use.node.op_type for use in value.uses()}
        assert value.const_value is not None
        if name in chosen:
            assert readers <= {"MatMul", "Gemm", "Transpose"}
            assert len(value.const_value.shape) == 2
        elif len(value.const_value.shape) == 2 and readers == {"MatMul"}:
            (use,) = value.uses()
            ends = [use.node.outputs[0], *(v for u in use.node.outputs[0].uses()
                                           for v in u.node.outputs)]  # fmt: skip
            assert any(end.is_graph_output() for end in ends)


def test_a_teacher_is_asked_once_about_a_batch() -> None:
    torch.manual_seed(0)
    mask = torch.tensor([[1, 1, 1], [1, 0, 0]]).bool()
    given = {
        "logits": torch.randn(2, 3, 4),
        "state": torch.randn(2, 3, 8),
        "all": torch.randn(2, 3),
    }
    asked = []

    def compute() -> dict[str, torch.Tensor]:
        asked.append(1)
        return given

    memory = Memory(frozenset(["state"]))
    first = memory.recall("a", mask, compute)
    again = memory.recall("a", mask, compute)
    assert len(asked) == 1
    assert all(torch.equal(first[name], again[name]) for name in given)
    assert torch.equal(first["logits"][mask], given["logits"][mask])
    assert torch.equal(first["all"], given["all"])
    assert first["logits"][~mask].abs().sum() == 0
    assert torch.allclose(first["state"][mask], given["state"][mask], rtol=1e-2)
    full = Memory(frozenset(), most=100)
    for _ in range(2):
        assert torch.equal(full.recall("a", mask, compute)["state"][mask], given["state"][mask])
    assert len(asked) == 3
