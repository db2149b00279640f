"""The job training study of LaLonde, as a survey comparison and as the experiment itself."""

from importlib.resources import files
from typing import Any

import numpy as np
from sklearn.utils import Bunch
from sklearn.utils._param_validation import StrOptions, validate_params

FEATURES = ["age", "educ", "black", "hispan", "married", "nodegree", "re74", "re75"]

_SAMPLES = {
    "observational": (
        "the 185 treated men of the National Supported Work Demonstration (NSW) and 429 men of "
        "the Panel Study of Income Dynamics (PSID) as controls: 614 rows. Nobody assigned the "
        "treatment at random, and the difference in mean earnings, -635 dollars, has the wrong "
        "sign."
    ),
    "experimental": (
        "the 185 treated and 260 control men of the National Supported Work Demonstration (NSW) "
        "whose earnings of 1974 are known: 445 rows. The treatment was assigned at random, and "
        "the difference in mean earnings is 1794 dollars."
    ),
}

_DESCRIPTION = """\
Job training and later earnings ({subset} sample)

Rows are {sample}

Covariates: age and educ in years; black, hispan, married and nodegree (no high school degree)
as 0 or 1; re74 and re75, earnings of 1974 and 1975 in dollars. Treatment: the training programme
(1 took part). Outcome: re78, earnings of 1978 in dollars. `frame` also has race in words.

Source: the subset of R. J. LaLonde's study that R. Dehejia and S. Wahba made public, in the form
distributed with the R package MatchIt (observational) and the Python package causaldata
(experimental).

LaLonde, R. J. (1986). Evaluating the econometric evaluations of training programs with
experimental data. American Economic Review 76(4), 604-620.
Dehejia, R. H., & Wahba, S. (1999). Causal effects in nonexperimental studies: reevaluating the
evaluation of training programs. Journal of the American Statistical Association 94(448),
1053-1062.
"""


@validate_params(
    {
        "subset": [StrOptions({"observational", "experimental"})],
        "return_X_y_t": ["boolean"],
        "as_frame": ["boolean"],
    },
    prefer_skip_nested_validation=True,
)
def load_lalonde(
    subset: str = "observational", *, return_X_y_t: bool = False, as_frame: bool = True
) -> Bunch | tuple[Any, Any, Any]:
    """Load the job training study of LaLonde.

    The treated men took part in a randomised training programme; the
    observational sample compares them with men of a survey instead of with
    the programme's own controls. What the experiment says is thus known, and
    methods for observational data can be held against it.

    Parameters
    ----------
    subset : {"observational", "experimental"}, default="observational"
        614 rows, of which 429 are controls from a survey, or the 445 rows of
        the experiment.
    return_X_y_t : bool, default=False
        Whether to return (data, outcome, treatment) alone.
    as_frame : bool, default=True
        Whether data and columns are pandas objects; False gives arrays.

    Returns
    -------
    Bunch or tuple of (data, outcome, treatment)
        The bunch has these entries:

        data : DataFrame or ndarray of shape (n_samples, 8)
            Covariates age, educ, black, hispan, married, nodegree, re74, re75.
        outcome, target : Series or ndarray of shape (n_samples,)
            Earnings of 1978 in dollars; two names of one thing.
        treatment : Series or ndarray of shape (n_samples,)
            1 for men in the programme, 0 for the others.
        frame : DataFrame or None
            All columns, race in words included; None if `as_frame` is False.
        feature_names : list of str
            Names of the covariates.
        DESCR : str
            Description and sources.

    References
    ----------
    LaLonde, R. J. (1986). Evaluating the econometric evaluations of training
    programs with experimental data. American Economic Review 76(4), 604-620.

    Dehejia, R. H., & Wahba, S. (1999). Causal effects in nonexperimental
    studies: reevaluating the evaluation of training programs. Journal of the
    American Statistical Association 94(448), 1053-1062.

    Examples
    --------
    >>> from causal import load_lalonde
    >>> study = load_lalonde()
    >>> study.data.shape
    (614, 8)
    >>> means = study.outcome.groupby(study.treatment).mean()
    >>> round(float(means[1] - means[0]), 2)
    -635.03
    """
    frame = _read(subset)
    data, outcome, treatment = frame[FEATURES].astype(np.float64), frame["re78"], frame["treat"]
    if not as_frame:
        data, outcome, treatment = data.to_numpy(), outcome.to_numpy(), treatment.to_numpy()
    if return_X_y_t:
        return data, outcome, treatment
    return Bunch(
        data=data,
        outcome=outcome,
        target=outcome,
        treatment=treatment,
        frame=frame if as_frame else None,
        feature_names=list(FEATURES),
        DESCR=_DESCRIPTION.format(subset=subset, sample=_SAMPLES[subset]),
    )


def _read(subset: str):
    """The file of a subset, with both the words and the indicators of race."""
    import pandas as pd

    path = files("causal.datasets").joinpath("data", f"lalonde_{subset}.csv")
    with path.open(encoding="utf-8") as file:
        # The C engine of older pandas reads some decimals one bit off.
        frame = pd.read_csv(file, engine="python")
    if "race" in frame:
        for column in ("black", "hispan"):
            frame[column] = (frame["race"] == column).astype(int)
    else:
        frame["race"] = np.select(
            [frame["black"] == 1, frame["hispan"] == 1], ["black", "hispan"], "white"
        )
    return frame[["treat", *FEATURES[:4], "race", *FEATURES[4:], "re78"]]
