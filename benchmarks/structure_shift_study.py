"""Target accuracy with and without structural re-weighting, in the source's block models.

    python benchmarks/structure_shift_study.py [--replications 20] [--networks 10]

Writes benchmarks/results/structure_shift.md. Three classes of 1000 nodes with edge probabilities
0.1 p within a class and 0.1 q between: p = 0.2 and q = 0.02 in the source, p = 0.2 and another q in
the target. One table is of a logistic regression on the features of a node and the mean of those
of its neighbours, the other of a graph network with two layers, trained as the source trains.
"""

import argparse
import time
from pathlib import Path

import numpy as np
import pandas as pd
from scipy import sparse
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import confusion_matrix
from sklearn.model_selection import cross_val_predict
from threadpoolctl import threadpool_limits

from shift import StructuralReweighter, make_block_model

HERE = Path(__file__).parent
BETWEEN = (0.02, 0.06, 0.10, 0.16)
STRENGTH = 0.8
# Epochs of the network in all, before the first weights, and between two fits of them.
EPOCHS, START, EVERY = 300, 200, 15
HIDDEN = 20


def draw(q, seed):
    return make_block_model(
        1000, (0.02, 0.002), (0.02, round(0.1 * q, 6)), random_state=np.random.default_rng(seed)
    )


def features(X, edge_index, weights=None):
    """Features of each node beside the mean of its neighbours', weighted after normalising."""
    senders, receivers = edge_index
    count = np.maximum(np.bincount(receivers, minlength=len(X)), 1)
    weights = np.ones(len(senders)) if weights is None else weights
    A = sparse.csr_array((weights / count[receivers], (receivers, senders)), shape=(len(X),) * 2)
    return np.hstack([X, A @ X])


class Surrogate:
    """Logistic regression on the features above, and what it does in the target."""

    def __init__(self, graphs):
        self.graphs = graphs
        self.target_features = features(graphs.X_target, graphs.edge_index_target)

    def fit(self, weights=None):
        """Fit the regression to the source with these weights of its edges."""
        self.source_features = features(self.graphs.X, self.graphs.edge_index, weights)
        self.model = LogisticRegression(C=1.0, max_iter=500).fit(
            self.source_features, self.graphs.y
        )
        return self

    def accuracy(self):
        """Share of target nodes that are predicted rightly."""
        predicted = self.model.predict(self.target_features)
        return float((predicted == self.graphs.y_target).mean())

    def labels(self, kind):
        """Predicted labels or probabilities of the target."""
        predict = self.model.predict_proba if kind == "soft" else self.model.predict
        return predict(self.target_features)

    def confusion(self):
        """Of source nodes out of fold, predictions by rows."""
        predicted = cross_val_predict(
            LogisticRegression(max_iter=500), self.source_features, self.graphs.y, cv=5
        )
        return confusion_matrix(self.graphs.y, predicted, normalize="true").T


def fit_weights(graphs, labels, **parameters):
    return StructuralReweighter(**parameters).fit(
        graphs.edge_index, graphs.y, edge_index_target=graphs.edge_index_target, y_target=labels
    )


def pseudo_label_rounds(graphs, n_rounds, kind="hard", confusion=False):
    """Accuracy after every round of predicting the target and fitting anew."""
    model = Surrogate(graphs).fit()
    accuracies = []
    for _ in range(n_rounds):
        parameters = {"confusion": model.confusion()} if confusion else {}
        fitted = fit_weights(graphs, model.labels(kind), strength=STRENGTH, **parameters)
        accuracies.append(model.fit(fitted.edge_weights_).accuracy())
    return accuracies, fitted


def surrogate_accuracies(q, seed):
    graphs = draw(q, seed)
    alone = LogisticRegression(max_iter=500).fit(graphs.X, graphs.y)
    true = fit_weights(graphs, graphs.y_target, strength=1.0)
    rounds, fitted = pseudo_label_rounds(graphs, 5)
    error = np.abs(fitted.ratio_ / true.ratio_ - 1).mean()
    return {
        "features only": alone.score(graphs.X_target, graphs.y_target),
        "no weights": Surrogate(graphs).fit().accuracy(),
        "weights by true labels, strength 1": Surrogate(graphs).fit(true.edge_weights_).accuracy(),
        "by predictions, 1 round": rounds[0],
        "by predictions, 5 rounds": rounds[-1],
        "by probabilities, 5 rounds": pseudo_label_rounds(graphs, 5, "soft")[0][-1],
        "by predictions, corrected, 5 rounds": pseudo_label_rounds(graphs, 5, confusion=True)[0][
            -1
        ],
        "log shift": true.shift_metrics_["log"],
        "relative error of ratios, 5 rounds": error,
    }


def network_accuracies(q, seed):
    """A network with two layers, without weights and with those of three strengths."""
    import torch
    from torch.nn.functional import cross_entropy

    torch.manual_seed(seed)
    graphs = draw(q, [seed, 1])
    rng = np.random.default_rng([seed, 2])
    source = (torch.tensor(graphs.X).float(), torch.tensor(graphs.edge_index))
    target = (torch.tensor(graphs.X_target).float(), torch.tensor(graphs.edge_index_target))
    y = torch.tensor(graphs.y)
    training = torch.tensor(rng.permutation(len(y))[: int(0.6 * len(y))])
    test = rng.permutation(len(graphs.y_target))[: int(0.8 * len(graphs.y_target))]

    class Layer(torch.nn.Module):
        def __init__(self, width, out):
            super().__init__()
            self.own, self.others = torch.nn.Linear(width, out), torch.nn.Linear(width, out)

        def forward(self, x, edge_index, weights):
            sender, receiver = edge_index
            degree = receiver.bincount(minlength=len(x)).clamp(min=1)
            messages = (weights / degree[receiver])[:, None] * x[sender]
            mean = x.new_zeros(x.shape).index_add(0, receiver, messages)
            return self.own(x) + self.others(mean)

    class Network(torch.nn.Module):
        def __init__(self):
            super().__init__()
            self.first, self.second = Layer(2, HIDDEN), Layer(HIDDEN, HIDDEN)
            self.out = torch.nn.Linear(HIDDEN, 3)

        def forward(self, graph, weights=None):
            x, edge_index = graph
            weights = torch.ones(edge_index.shape[1]) if weights is None else weights
            hidden = self.first(x, edge_index, weights).relu()
            return self.out(self.second(hidden, edge_index, weights).relu())

    network = Network()
    optimizer = torch.optim.Adam(network.parameters(), lr=0.004)
    schedule = torch.optim.lr_scheduler.StepLR(optimizer, 50, 0.8)

    def step(weights=None):
        optimizer.zero_grad()
        cross_entropy(network(source, weights)[training], y[training]).backward()
        optimizer.step()
        schedule.step()

    def predict():
        with torch.no_grad():
            return network(target).argmax(1)

    for _ in range(START):
        step()
    parts = (network, optimizer, schedule)
    before = [_copy(part.state_dict()) for part in parts]
    accuracies = {}
    for strength in (0.0, 0.5, 0.8, 1.0):
        for part, state in zip(parts, before, strict=True):
            part.load_state_dict(_copy(state))
        weights = None
        for epoch in range(START, EPOCHS):
            if strength and (epoch - START) % EVERY == 0:
                fitted = StructuralReweighter(strength).fit(
                    source[1], y, edge_index_target=target[1], y_target=predict()
                )
                weights = fitted.edge_weights_
            step(weights)
        name = f"weights, strength {strength:g}" if strength else "no weights"
        accuracies[name] = float((predict().numpy() == graphs.y_target)[test].mean())
    return accuracies


def _copy(state):
    from copy import deepcopy

    return deepcopy(state)


def table(found, baseline="no weights"):
    """Markdown lines: mean and Monte-Carlo error, and those of the paired difference."""
    names = list(next(iter(found.values()))[0])
    lines = [
        "| | " + " | ".join(f"q = {q:.2f}" for q in found) + " |",
        "|---" * (len(found) + 1) + "|",
    ]
    frames = {q: pd.DataFrame(rows) for q, rows in found.items()}

    def cell(values, sign=""):
        return f"{values.mean():{sign}.3f} ± {values.std() / np.sqrt(len(values)):.3f}"

    for name in names:
        cells = [cell(frame[name]) for frame in frames.values()]
        lines.append(f"| {name} | " + " | ".join(cells) + " |")
    for name in names:
        if ("weights" in name and name != baseline) or name.startswith("by "):
            cells = [cell(frame[name] - frame[baseline], "+") for frame in frames.values()]
            lines.append(f"| gain: {name} | " + " | ".join(cells) + " |")
    return lines


HEAD = """# Structural re-weighting in block models

Made by `python benchmarks/structure_shift_study.py --replications {replications} --networks
{networks}`. Target accuracy, mean over replications plus or minus one Monte-Carlo standard error;
gains over no weights are paired. q sets how often classes connect to each other in the target
(0.02 in the source, 0.2 within classes).

How to read it: without weights the accuracy falls with q, for the regression far below what the
features of nodes alone give. Weights bring it back to about that. For the regression they cost a
point under mild shift (q = 0.06), with true labels too; the network gains there. Predicted labels
do about as well as true ones; more rounds, probabilities and the correction of the counts by the
source's confusion change little. It happens that a network predicts a class nowhere in the target,
whose edges then weigh one. The source's own table has not been compared with, and none of its data
sets is shipped.
"""


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--replications", type=int, default=20)
    parser.add_argument("--networks", type=int, default=10, help="0 leaves them and torch out")
    parser.add_argument("--output", type=Path, default=HERE / "results" / "structure_shift.md")
    options = parser.parse_args()
    lines = [HEAD.format(replications=options.replications, networks=options.networks)]
    studies = [
        (
            "Logistic regression on a node and the mean of its neighbours",
            surrogate_accuracies,
            options.replications,
        ),
        ("Network of two layers", network_accuracies, options.networks),
    ]
    for title, study, n in studies:
        if not n:
            continue
        start = time.perf_counter()
        with threadpool_limits(1):
            found = {q: [study(q, seed) for seed in range(n)] for q in BETWEEN}
        lines += [f"## {title}, {n} replications", "", *table(found), ""]
        print(f"{title}: {time.perf_counter() - start:.0f} s", flush=True)
        options.output.write_text("\n".join(lines))


if __name__ == "__main__":
    main()
