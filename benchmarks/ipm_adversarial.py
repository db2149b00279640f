"""Early-stopped weights of Kong et al. (2023), as their optimiser finds them.

    python benchmarks/ipm_adversarial.py [--rows 200] [--seeds 5]

Weights are a softmax of free scores, moved by Adam (rate 0.03, 1000 steps) against a discriminator:
none for the maximum mean discrepancy; 100 sigmoids, or a network of one hidden layer with 100
units, that take 5 steps of Adam (rate 0.3) before each step of the weights. The networks need
torch. Stopping early regularises, so that these weights differ from the minimisers of
`IPMBalancing`; this file shows by how much, on one draw of the design of Kang and Schafer.
"""

import argparse

import numpy as np
from scipy.special import expit, softmax

from causal import IPMBalancing, make_kang_schafer
from causal.balancing._ipm_arm import ArmProblem
from causal.balancing._ipm_kernel import KernelDiscrepancy, rbf_kernel
from causal.balancing._ipm_sigmoid import SigmoidDiscrepancy
from causal.balancing._ipm_wasserstein import WassersteinDiscrepancy

N_STEPS = 1000
WEIGHT_RATE = 0.03
ADVERSARY_STEPS = 5
ADVERSARY_RATE = 0.3
BETAS = (0.9, 0.999)
EPSILON = 1e-8


class Adam:
    """State of Adam for one array."""

    def __init__(self, shape, rate: float) -> None:
        self.rate, self.step_number = rate, 0
        self.first, self.second = np.zeros(shape), np.zeros(shape)

    def step(self, gradient):
        """What to add to the array to go down the gradient."""
        self.step_number += 1
        self.first = BETAS[0] * self.first + (1 - BETAS[0]) * gradient
        self.second = BETAS[1] * self.second + (1 - BETAS[1]) * gradient**2
        first = self.first / (1 - BETAS[0] ** self.step_number)
        second = self.second / (1 - BETAS[1] ** self.step_number)
        return -self.rate * first / (np.sqrt(second) + EPSILON)


def softmax_mmd(arm: ArmProblem, bandwidths=(10.0,), n_steps: int = N_STEPS):
    """Weights after `n_steps` of Adam on the squared maximum mean discrepancy."""
    gram = KernelDiscrepancy(arm, rbf_kernel(list(bandwidths)), "chi2", None, None).gram
    scores, adam = np.ones(len(gram)), Adam(len(gram), WEIGHT_RATE)
    for _ in range(n_steps):
        w = softmax(scores)
        gradient = 2 * gram @ w
        scores += adam.step(w * (gradient - w @ gradient))
    return softmax(scores)


def softmax_sigmoids(arm: ArmProblem, seed: int, n_sigmoids: int = 100, n_steps: int = N_STEPS):
    """Weights after `n_steps` against sigmoids that climb the sum of squared differences."""
    rng = np.random.default_rng(seed)
    n, p = arm.X.shape
    points = np.concatenate([arm.X, arm.target])
    design = np.column_stack([points, np.ones(len(points))])
    bound = 1 / np.sqrt(p)
    theta = rng.uniform(-bound, bound, (n_sigmoids, p + 1))
    scores = np.ones(n)
    adam, adversary = Adam(n, WEIGHT_RATE), Adam(theta.shape, ADVERSARY_RATE)
    for _ in range(n_steps):
        w = softmax(scores)
        signed = np.r_[w, -arm.target_weight]
        for _ in range(ADVERSARY_STEPS):
            sigmoid = expit(theta @ design.T)
            slope = (sigmoid * (1 - sigmoid) * signed) @ design
            theta += adversary.step(-2 * (sigmoid @ signed)[:, None] * slope)
        sigmoid = expit(theta @ design.T)
        difference = sigmoid @ signed
        k = int(np.argmax(np.abs(difference)))
        gradient = 2 * difference[k] * sigmoid[k, :n]
        scores += adam.step(w * (gradient - w @ gradient))
    return softmax(scores)


def softmax_network(arm: ArmProblem, seed: int, n_hidden: int = 100, n_steps: int = N_STEPS):
    """Weights after `n_steps` against a clamped network with a gradient penalty."""
    import torch

    torch.manual_seed(seed)
    rows, target = (torch.as_tensor(a, dtype=torch.float32) for a in (arm.X, arm.target))
    r = torch.as_tensor(arm.target_weight, dtype=torch.float32)
    network = torch.nn.Sequential(
        torch.nn.Linear(rows.shape[1], n_hidden),
        torch.nn.LeakyReLU(0.1),
        torch.nn.Linear(n_hidden, 1),
    )
    scores = torch.ones(len(rows), requires_grad=True)
    adam = torch.optim.Adam([scores], lr=WEIGHT_RATE)
    adversary = torch.optim.Adam(network.parameters(), lr=ADVERSARY_RATE)

    def difference(w):
        return w @ network(rows)[:, 0] - r @ network(target)[:, 0]

    for _ in range(n_steps):
        w = torch.softmax(scores, 0).detach()
        for _ in range(ADVERSARY_STEPS):
            share = torch.rand(100, 1)
            pairs = [torch.randint(len(side), (100,)) for side in (rows, target)]
            between = share * rows[pairs[0]] + (1 - share) * target[pairs[1]]
            between.requires_grad_()
            (slope,) = torch.autograd.grad(network(between).sum(), between, create_graph=True)
            penalty = ((slope.norm(dim=1) - 1) ** 2).mean()
            adversary.zero_grad()
            (-(difference(w) ** 2) + 0.3 * penalty).backward()
            adversary.step()
            with torch.no_grad():
                for layer in (network[0], network[2]):
                    layer.weight.clamp_(-0.1, 0.1)
        adam.zero_grad()
        (difference(torch.softmax(scores, 0)) ** 2).backward()
        adam.step()
    return torch.softmax(scores, 0).detach().double().numpy()


def arm_of(study) -> ArmProblem:
    """The controls of a study with the treated as target, in standard units."""
    Z = (study.X - study.X.mean(axis=0)) / study.X.std(axis=0)
    treated = study.treatment == 1
    n, m = int((~treated).sum()), int(treated.sum())
    return ArmProblem(Z[~treated], np.full(n, 1 / n), Z[treated], np.full(m, 1 / m))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rows", type=int, default=200)
    parser.add_argument("--seeds", type=int, default=5)
    options = parser.parse_args()
    study = make_kang_schafer(options.rows, random_state=0)
    arm = arm_of(study)
    treated = study.treatment == 1
    metrics = {
        "mmd": KernelDiscrepancy(arm, rbf_kernel([10.0]), "chi2", None, None),
        "wasserstein": WassersteinDiscrepancy(arm),
        "sipm": SigmoidDiscrepancy(arm, 100, None, np.random.RandomState(0)),
    }

    def report(name: str, w) -> None:
        values = "  ".join(f"{metric} {metrics[metric].value(w):.4f}" for metric in metrics)
        effect = study.y[treated].mean() - w @ study.y[~treated]
        print(f"{name:26s} {values}  ESS {1 / (w @ w):5.1f}  effect {effect:6.2f}")

    report("uniform", arm.base)
    for ipm, alpha in (("mmd", 0.0), ("mmd", None), ("wasserstein", None), ("sipm", None)):
        balancer = IPMBalancing("ATT", ipm=ipm, alpha=alpha, random_state=0)
        weights = balancer.fit_weights(study.X, study.treatment)[~treated]
        report(f"{ipm}, minimiser, alpha {balancer.alpha_[0]:g}", weights / weights.sum())
    report("mmd, early stopped", softmax_mmd(arm))
    for seed in range(options.seeds):
        report(f"sipm, adversary, seed {seed}", softmax_sigmoids(arm, seed))
    try:
        for seed in range(options.seeds):
            report(f"wasserstein, net, seed {seed}", softmax_network(arm, seed))
    except ImportError:
        print("the network adversary needs torch: pip install 'counterpoise[torch]'")


if __name__ == "__main__":
    main()
