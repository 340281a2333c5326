"""Graphs: who sees whom, where a node stands, and anomalies that only their neighbours betray."""

import pytest
import torch
from torch import Tensor, nn

from ammon.datasets.graphs import anomalous_graph
from ammon.experiments.graph_anomaly import MODELS, detect, detector, split
from ammon.nn.energy_transformer import EnergyTransformer
from ammon.nn.graph_blocks import GraphAttention, GraphBlock, GraphConvolution, NodesAlone
from ammon.nn.graph_classifiers import GraphClassifier, NodeClassifier, laplacian_positions
from ammon.training.plan import Plan

NODES, FEATURES = 9, 4


def make(kind: type[NodeClassifier] | type[GraphClassifier], positions: int = 0, steps: int = 1) -> NodeClassifier | GraphClassifier:
    torch.manual_seed(0)
    return kind(EnergyTransformer(8, 2, head_dim=4, memories=12, steps=steps), FEATURES, 3, positions).double()


def path(batch: int = 2) -> Tensor:
    """A path 0 - 1 - 2 - ... without the nodes' own edges."""
    steps = torch.arange(NODES)
    return ((steps[:, None] - steps).abs() == 1).expand(batch, -1, -1).clone()


def draw(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(*shape, dtype=torch.float64, generator=torch.Generator().manual_seed(seed))


@pytest.mark.parametrize("steps", [1, 2, 3])
def test_a_node_learns_of_others_up_to_two_edges_a_step_and_no_farther(steps: int) -> None:
    # a neighbour's query asks of the node's key in competition with the neighbour's other neighbours
    model, features = make(NodeClassifier, steps=steps), draw(2, NODES, FEATURES).requires_grad_()
    (slope,) = torch.autograd.grad(model(features, path())[0, 0].sum(), features)
    assert slope[0].abs().sum(-1).bool().tolist() == [node <= 2 * steps for node in range(NODES)]
    assert not slope[1].any()


@pytest.mark.parametrize("kind", [NodeClassifier, GraphClassifier])
def test_the_order_of_nodes_does_not_matter(kind: type[NodeClassifier]) -> None:
    model, features, edges, places = make(kind, 2), draw(2, NODES, FEATURES), path(), draw(2, NODES, 2, seed=1)
    order = torch.randperm(NODES, generator=torch.Generator().manual_seed(3))
    truth = model(features, edges, places)
    turned = model(features[:, order], edges[:, order][:, :, order], places[:, order])
    torch.testing.assert_close(turned, truth[:, order] if kind is NodeClassifier else truth, rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("kind", [NodeClassifier, GraphClassifier])
def test_nodes_that_are_not_there_change_nothing(kind: type[NodeClassifier]) -> None:
    model, features, edges = make(kind, steps=3), draw(2, NODES, FEATURES), path()
    mask = torch.ones(2, NODES, dtype=torch.bool)
    mask[0, 4:] = False
    found = model(features.masked_fill(~mask[..., None], torch.nan), edges, mask=mask)
    alone = model(features[:1, :4], edges[:1, :4, :4])
    torch.testing.assert_close(found[0, :4] if kind is NodeClassifier else found[0], alone[0], rtol=1e-12, atol=1e-12)


def test_a_graphs_answer_depends_on_its_edges_and_on_every_node() -> None:
    model, features = make(GraphClassifier, steps=2), draw(2, NODES, FEATURES).requires_grad_()
    (slope,) = torch.autograd.grad(model(features, path())[0].sum(), features)
    assert bool((slope[0].abs().sum(-1) > 0).all())
    assert not torch.allclose(model(features, path()), model(features, ~path()))


def test_a_graph_classifier_tells_a_ring_from_two_by_where_their_nodes_stand() -> None:
    def rings(parts: int) -> Tensor:
        size = 8 // parts
        steps = torch.arange(8)
        near = (steps[:, None] - steps) % size
        return (steps[:, None] // size == steps // size) & ((near == 1) | (near == size - 1))

    generator = torch.Generator().manual_seed(0)
    edges = torch.stack([rings(1), rings(2)] * 8)
    targets = torch.arange(16) % 2
    orders = [torch.randperm(8, generator=generator) for _ in range(16)]
    edges = torch.stack([one[order][:, order] for one, order in zip(edges, orders, strict=True)])
    places = laplacian_positions(edges, 3)
    torch.manual_seed(0)
    model = GraphClassifier(EnergyTransformer(16, 2, head_dim=8, memories=32, steps=3), 1, 2, 3)
    optimizer = torch.optim.Adam(model.parameters(), 1e-2)
    for _ in range(60):
        # the sign of an eigenvector means nothing
        flipped = places * (torch.rand(16, 1, 3, generator=generator).round() * 2 - 1)
        optimizer.zero_grad()
        nn.functional.cross_entropy(model(torch.ones(16, 8, 1), edges, flipped), targets).backward()
        optimizer.step()
    assert float((model(torch.ones(16, 8, 1), edges, places).argmax(-1) == targets).float().mean()) >= 0.9


def test_positions_are_eigenvectors_of_the_laplacian_of_the_graph() -> None:
    edges = path()
    places = laplacian_positions(edges, 3).double()
    links = edges[0].double()
    scale = links.sum(-1).rsqrt()
    laplacian = torch.eye(NODES, dtype=torch.float64) - scale[:, None] * links * scale
    for column in places[0].T:
        value = column @ laplacian @ column / (column @ column)
        torch.testing.assert_close(laplacian @ column, value * column, rtol=0, atol=1e-6)
        assert float(value) > 1e-3
    torch.testing.assert_close(places[0].T @ places[0], NODES * torch.eye(3, dtype=torch.float64), rtol=0, atol=1e-5)
    mask = torch.ones(2, NODES, dtype=torch.bool)
    mask[0, 3:] = False
    masked = laplacian_positions(edges, 4, mask)
    assert not masked[0, 3:].any()
    # three nodes have two eigenvalues beside 0
    assert bool(masked[0, :3, :2].any())
    assert not masked[0, :, 2:].any()
    assert not laplacian_positions(torch.zeros_like(edges), 2).any()


def test_in_an_anomalous_graph_neighbours_share_a_community_and_anomalies_do_not_show_theirs() -> None:
    graph = anomalous_graph(600, noise=0.1, generator=torch.Generator().manual_seed(0))
    assert torch.equal(graph.edges, graph.edges.T)
    assert not graph.edges.diagonal().any()
    assert 8 < float(graph.edges.sum(-1).float().mean()) < 12
    assert int(graph.anomalous.sum()) == 60
    around = graph.edges.float() @ graph.features / graph.edges.sum(-1, keepdim=True).clamp_min(1)
    distance = (graph.features - around).square().sum(-1)
    assert float(distance[graph.anomalous].mean()) > 3 * float(distance[~graph.anomalous].mean())
    # but alone they look like any other
    lengths = graph.features.square().sum(-1)
    assert float((lengths[graph.anomalous].mean() / lengths.mean() - 1).abs()) < 0.2


def test_a_split_holds_every_node_once_and_anomalies_in_each_part() -> None:
    anomalous = anomalous_graph(500, generator=torch.Generator().manual_seed(0)).anomalous
    parts = split(anomalous, 0.4, torch.Generator().manual_seed(1))
    assert torch.equal(torch.cat(parts).sort().values, torch.arange(500))
    assert [int(anomalous[part].sum()) for part in parts] == [20, 10, 20]
    assert [len(part) for part in parts] == [200, 100, 200]


BLOCKS = {
    "attention": (lambda: GraphAttention(8, 2, 500), 1),
    "convolution": (lambda: GraphConvolution(8, 500), 2),
    "alone": (lambda: NodesAlone(8, 500), 0),
}


def block(name: str) -> GraphBlock:
    torch.manual_seed(0)
    return BLOCKS[name][0]().double()


@pytest.mark.parametrize("name", BLOCKS)
def test_a_rival_block_sees_as_far_as_it_should_whatever_the_order_of_nodes(name: str) -> None:
    model = NodeClassifier(block(name), FEATURES, 3).double()
    features, edges = draw(2, NODES, FEATURES).requires_grad_(), path()
    (slope,) = torch.autograd.grad(model(features, edges)[0, 0].sum(), features)
    assert slope[0].abs().sum(-1).bool().tolist() == [node <= BLOCKS[name][1] for node in range(NODES)]
    assert not slope[1].any()
    order = torch.randperm(NODES, generator=torch.Generator().manual_seed(3))
    turned = model(features[:, order], edges[:, order][:, :, order])
    torch.testing.assert_close(turned, model(features, edges)[:, order], rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("name", BLOCKS)
def test_to_a_rival_block_a_node_that_is_not_there_is_as_if_it_had_not_been(name: str) -> None:
    rival, x = block(name), draw(2, NODES, 8)
    mask = torch.ones(2, NODES, dtype=torch.bool)
    mask[0, 4:] = False
    for edges in (path() | torch.eye(NODES, dtype=torch.bool), None):
        found = rival(x.masked_fill(~mask[..., None], torch.nan), mask=mask, edges=edges)
        alone = rival(x[:1, :4], edges=None if edges is None else edges[:1, :4, :4])
        torch.testing.assert_close(found[0, :4], alone[0], rtol=1e-12, atol=1e-12)
        assert not found[0, 4:].any()


def test_graph_convolutions_are_those_of_kipf_and_welling_node_by_node() -> None:
    rival, x = block("convolution"), draw(1, NODES, 8)
    assert isinstance(rival, GraphConvolution)
    links = (path()[0] | torch.eye(NODES, dtype=torch.bool)).double()
    degrees, shown, hidden, wanted = links.sum(-1), rival.norm(x)[0], [], []
    for rows, layer in ((shown, rival.first), (hidden, rival.second)):
        out = hidden if rows is shown else wanted
        for node in range(NODES):
            terms = [layer(rows[other]) / (degrees[node] * degrees[other]).sqrt() for other in range(NODES) if links[node, other]]
            out.append(torch.stack(terms).sum(0).relu() if rows is shown else torch.stack(terms).sum(0))
    torch.testing.assert_close(rival(x, edges=links.bool()[None])[0], x[0] + torch.stack(wanted), rtol=1e-12, atol=1e-12)


def test_a_node_that_sees_nothing_keeps_what_it_is_in_graph_attention() -> None:
    rival, x, edges = block("attention"), draw(1, NODES, 8), path(1)
    edges[:, 0] = False
    assert isinstance(rival, GraphAttention)
    shown = rival(x, edges=edges)[0, 0]
    base = x[0, 0] + rival.gives.bias
    torch.testing.assert_close(shown, base + rival.each(base), rtol=1e-12, atol=1e-12)


def test_detectors_have_as_many_parameters() -> None:
    counts = {name: sum(parameter.numel() for parameter in detector(name, 16).parameters()) for name in MODELS}
    assert max(counts.values()) - min(counts.values()) < 0.01 * counts["energy"]


@pytest.mark.parametrize("name", MODELS)
def test_a_detector_is_trained_and_scored(name: str) -> None:
    graph = anomalous_graph(120, generator=torch.Generator().manual_seed(0))
    score = detect(graph, detector(name, 16), plan=Plan(4, every=2))
    assert 0 <= score.macro_f1 <= 1
    assert 0 <= score.auc <= 1
    assert detect(graph, detector(name, 16), plan=Plan(4, every=2)) == score


def test_bad_input_is_refused_in_one_sentence() -> None:
    model, features, edges = make(NodeClassifier), draw(2, NODES, FEATURES), path()
    with pytest.raises(ValueError, match=r"edges must be bool \[batch, node, node\]"):
        model(features, edges.double())
    with pytest.raises(ValueError, match="positions exactly if the classifier was made for them"):
        model(features, edges, draw(2, NODES, 2))
    with pytest.raises(ValueError, match="undirected"):
        laplacian_positions(edges.triu(), 2)
    with pytest.raises(ValueError, match=r"edges must be bool"):
        laplacian_positions(edges[0], 2)
    with pytest.raises(ValueError, match="2 communities"):
        anomalous_graph(10, communities=1)
    with pytest.raises(ValueError, match="dim must be a multiple of the heads, got 9 and 2"):
        GraphAttention(9, 2, 500)
